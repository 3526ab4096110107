"""Repositories that are mounted late: they are waited for, for a while and with few words."""

import logging
import os
from pathlib import Path

import onnx_models
import pytest

from ortolan.core.late_repository import await_repository
from ortolan.repository.directory import RepositoryListing, survey

AT_LOOK = 3


@pytest.mark.parametrize("before", ["nothing", "dangling", "circle"])
async def test_a_repository_that_comes_late_is_found(
    before: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target, link = tmp_path / "target", tmp_path / "models"
    onnx_models.save_version(target, "double", onnx_models.doubler())
    if before != "nothing":
        link.symlink_to(tmp_path / "nowhere" if before == "dangling" else link)
    looks = 0

    async def look() -> RepositoryListing:
        nonlocal looks
        looks += 1
        if looks == AT_LOOK:
            # As a container beside the server does it: never half.
            (tmp_path / "new").symlink_to(target)
            os.replace(tmp_path / "new", link)
        return survey([link])

    with caplog.at_level(logging.WARNING):
        await await_repository(look, 60)
    assert looks == AT_LOOK
    assert "waiting for the model repository, for 60 s at most" in caplog.text
    assert len(caplog.records) == 1


async def test_the_waiting_ends(tmp_path: Path) -> None:
    looks = 0

    async def look() -> RepositoryListing:
        nonlocal looks
        looks += 1
        return survey([tmp_path / "nowhere"])

    await await_repository(look, 0.2)
    assert looks > 1


async def test_a_repository_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    async def look() -> RepositoryListing:
        return survey([tmp_path])

    await await_repository(look, 3600)
