"""What a newcomer tries first: every block on them does what the page says."""

from pathlib import Path

import pytest
from documented_pages import GROUPS
from documented_session import TIMEOUT_S, Session


@pytest.mark.timeout(TIMEOUT_S + 20)
@pytest.mark.parametrize("page", GROUPS["start"])
def test_every_block_does_what_the_page_says(page: str, tmp_path: Path) -> None:
    session = Session(page, tmp_path)
    session.run()
    assert session.differences() == []
