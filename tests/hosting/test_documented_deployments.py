"""The deployments of docs/hosting.md: they are YAML, and their arguments are what the command line takes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
import yaml

from ortolan.cli import main
from ortolan.hosting.contract import Contract
from ortolan.hosting.detection import CONTRACTS
from ortolan.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "hosting.md").read_text()
DOCUMENTS = [yaml.safe_load(found) for found in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def containers(document: object) -> Iterator[dict[str, Any]]:
    """Every container of ours in it, however deep."""
    for part in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        if isinstance(part, dict) and part.get("image") == "ortolan":
            yield part
        yield from containers(part)


CONTAINERS = [found for document in DOCUMENTS for found in containers(document)]


@pytest.mark.parametrize("container", CONTAINERS)
def test_their_arguments_are_taken(
    container: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    command, *arguments = container["args"]
    assert command == "serve"
    given = [str(tmp_path) if each.startswith("/") else each.replace("{{.Name}}", "iris") for each in arguments]
    assert main(["models", *given]) == 0
    assert "  double  version 1" in capsys.readouterr().out


def test_there_are_some() -> None:
    assert len(CONTAINERS) >= 2


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_every_contract_is_a_choice_and_documented_in_its_order(contract: Contract) -> None:
    choices = [line.split("`")[1] for line in PAGE.splitlines() if re.match(r"\| `[a-z]+` \| \[", line)]
    assert choices == [each.name for each in CONTRACTS]
    assert Settings(hosting=contract.name).hosting == contract.name  # type: ignore[arg-type]
