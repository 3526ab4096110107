"""The documentation as text: links lead somewhere, flags exist, data can be read, what is not run says why."""

import json
import re
import tomllib
from pathlib import Path

import documented_pages
import pytest
import yaml
from documented_pages import GROUPS, PAGES, PARSED, ROOT, RUN, SHOWN, Block, blocks

from ortolan import triton_flags
from ortolan.cli import COMMANDS
from ortolan.commands.command_line import whole_parser
from ortolan.commands.completion import command_lines
from ortolan.hosting import runtime_flags
from ortolan.repository import config_file

BLOCKS = [block for page in PAGES for block in blocks(page)]
NOT_RUN = [block for block in BLOCKS if block.reason_not_to_run]
DATA = [block for block in BLOCKS if block.language in PARSED]

# Flags of other programs, by who has them.
FOREIGN_FLAGS = {
    "curl": "--cacert --cert --key --fail --http2-prior-knowledge --retry --retry-all-errors --retry-delay",
    "docker": "--build --name --rm --stop-timeout --health-cmd --tag --ulimit --memory --read-only --tmpfs --cap-drop "
    "--gpus --security-opt --platform --target --build-arg",
    "podman": "--sdnotify",
    "gcloud": "--image --use-http2 --concurrency --cpu --add-volume --add-volume-mount --args",
    "kubectl": "--previous --raw --for --timeout --prune --cascade",
    "model_signing": "--private-key --signature",
    "systemctl": "--now",
    "ruff": "--check",
    "benchmarks/": "--peer --variant --models --forms --grid --flag --clients --rates --seconds --rounds --workers",
    "nobody": "--http-prot --flag",
}
_FLAG = re.compile(r"(?<![\w-])--[a-z0-9][a-z0-9_-]*(?![\w…*-])")
"""As people write them, with hyphens or underscores; not those that stand for several, such as --tls-…"""


def test_every_kind_of_block_is_known() -> None:
    known = (*RUN, *PARSED, *SHOWN)
    assert not [f"{block.place}: {block.language!r}" for block in BLOCKS if block.language not in known]


def test_every_mark_is_known() -> None:
    marked = [block for block in BLOCKS if block.mark]
    known = [block for block in marked if block.reason_not_to_run or block.file or block.is_output or block.before]
    assert [block.place for block in marked] == [block.place for block in known]


def test_every_page_with_blocks_to_run_is_in_one_group() -> None:
    run = {block.page for block in BLOCKS if block.language in RUN and not block.reason_not_to_run}
    assert sorted(page for pages in GROUPS.values() for page in pages) == sorted(run)


@pytest.mark.parametrize("page", PAGES)
def test_code_stands_between_fences(page: str) -> None:
    """Indented code has no language, and would be neither run nor marked."""
    assert not re.findall(r"^(?!\s*[-*\d]).*\n\n {4}\S.*", documented_pages.prose(page), re.MULTILINE)


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_what_is_not_run_says_why(block: Block) -> None:
    pytest.skip(f"{block.place} is not run: {block.reason_not_to_run}")


@pytest.mark.parametrize("block", DATA, ids=lambda block: block.place)
def test_data_can_be_read(block: Block) -> None:
    if block.language == "json":
        json.loads(block.code, parse_constant=refused)
    elif block.language == "yaml":
        assert [document for document in yaml.safe_load_all(block.code) if document is not None]
    elif block.language == "toml":
        tomllib.loads(block.code)
    else:
        config_file.parse_text(block.code, "m")


def refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    wrong = []
    for target in documented_pages.links(page):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            wrong.append(target)
    assert not wrong


def anchors_of(file: Path) -> set[str]:
    return documented_pages.anchors(file.resolve().relative_to(ROOT).as_posix())


def test_every_page_is_in_the_index() -> None:
    listed = {target.partition("#")[0] for target in documented_pages.links("docs/README.md")}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - listed == {"README.md"}


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Every flag of every command, and those of other programs."""
    parser, _ = whole_parser(COMMANDS, [*COMMANDS])
    own = {flag.name for command in command_lines(parser, {}) for flag in command.flags}
    tritons = {*triton_flags.WITHOUT_EFFECT, *triton_flags.TRACE_FLAGS, *triton_flags.HTTP_PORTS}
    runtimes = {*runtime_flags.WITHOUT_EFFECT, *runtime_flags.FIELD_OF_FLAG, *runtime_flags.REFUSED}
    others = {triton_flags.BACKEND_CONFIG, runtime_flags.POLL, runtime_flags.PORT}
    return {*own, *tritons, *runtimes, *others, *" ".join(FOREIGN_FLAGS.values()).split()}


@pytest.mark.parametrize("page", PAGES)
def test_flags_exist(page: str, known_flags: set[str]) -> None:
    named = {flag.replace("_", "-") for flag in _FLAG.findall(documented_pages.text_of(page))}
    assert sorted(named - known_flags) == []
