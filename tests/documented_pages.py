"""The pages of the documentation as data: their blocks of code, what is said of these, headings and links.

A block's language says what becomes of it in a test. ``bash`` and ``python`` are run, ``json``, ``yaml``, ``toml`` and
``pbtxt`` are parsed, ``promql`` is asked, ``text`` is only shown. Of ``console`` the lines behind ``$`` are run, and
print the others. An HTML comment in the line before says more:

- ``<!-- not run: REASON -->``: it is not run, and why;
- ``<!-- after: COMMAND -->``: it is run after that, which a reader would have done in another way;
- ``<!-- file: NAME -->``: it is written to that file, for the blocks after it;
- ``<!-- output -->``: the block of bash before it prints this (numbers may be others, and … stands for anything).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ("bash", "python", "console")
PARSED = ("json", "yaml", "toml", "pbtxt")
SHOWN = ("text", "promql", "ini", "dockerfile")
"""promql is asked by tests/system/test_prometheus.py."""
PAGES = (
    # Whoever adds a page whose blocks are run puts it into GROUPS as well.
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
    "k8s/README.md",
    "examples/README.md",
    "benchmarks/README.md",
    "model_repo/README.md",
)
GROUPS = {
    "start": ("README.md", "docs/quick_start.md", "docs/migration_from_triton.md"),
    "operations": ("docs/operations.md", "docs/commands.md", "docs/one_port.md", "docs/scaling.md"),
    "access": ("docs/authentication.md", "docs/tls.md", "docs/integrity.md"),
    "models": (
        "docs/hosting.md",
        "docs/ensembles.md",
        "docs/memory.md",
        "docs/repository.md",
        "docs/logging.md",
        "docs/tracing.md",
    ),
}
"""Pages whose blocks are run, in files of tests of their own: tests/system/test_documented_….py."""

_FENCE = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>[^\n]*) -->\n(?P=indent))?```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A block of code; ``line`` is that of its fence."""

    page: str
    line: int
    language: str
    mark: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def reason_not_to_run(self) -> str:
        return self.mark.removeprefix("not run:").strip() if self.mark.startswith("not run:") else ""

    @property
    def before(self) -> str:
        return self.mark.removeprefix("after:").strip() if self.mark.startswith("after:") else ""

    @property
    def commands(self) -> str:
        """What of it is run."""
        if self.language != "console":
            return self.code
        return "".join(f"{line[2:]}\n" for line in self.code.splitlines() if line.startswith("$ "))

    @property
    def printed(self) -> str:
        """What of it is said to be printed."""
        return "".join(f"{line}\n" for line in self.code.splitlines() if not line.startswith("$ "))

    @property
    def file(self) -> str:
        return self.mark.removeprefix("file:").strip() if self.mark.startswith("file:") else ""

    @property
    def is_output(self) -> bool:
        return self.mark == "output"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """In their order, without the indentation that those in lists have."""
    text = text_of(page)
    return [_block(page, text, found) for found in _FENCE.finditer(text)]


def _block(page: str, text: str, found: re.Match[str]) -> Block:
    line = text.count("\n", 0, found.start("language")) + 1
    code = re.sub(f"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
    return Block(page, line, found["language"], (found["mark"] or "").strip(), code)


def prose(page: str) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", text_of(page))


def anchors(page: str) -> set[str]:
    """What links may name in the page, as GitHub makes it of headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        found.add(_NOT_IN_ANCHORS.sub("", plain).replace(" ", "-"))
    return found


def links(page: str) -> Iterator[str]:
    """Where the page's links lead, but for those to other hosts."""
    for target in _LINK.findall(prose(page)):
        if "://" not in target and not target.startswith("mailto:"):
            yield target
