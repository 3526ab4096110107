"""What the places have in common from which models are fetched: files with a tag each, read from any byte on."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class SourceFailure(Exception):
    """A source does not give what was asked of it. The text is for the operator: no credentials, no signed URL."""


class SourceUnreachable(SourceFailure):
    """It may do so later: the network, or the server on its other side, failed."""


class NotThere(SourceFailure):
    """What was asked for is not there."""


class SourceChanged(SourceFailure):
    """The file is not the one any more that was listed."""


class Corrupt(SourceFailure):
    """What arrived is not what the source says that it has."""


class Stopped(SourceFailure):
    """The server is stopping; what has arrived is kept."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's content must hash to.

    ``git`` is SHA-1 over git's header and the content. One that is not ``is_certain`` may be no hash of the content
    at all: an object store's ETag is its MD5, but not where the store encrypts with keys of the user's.
    """

    algorithm: Literal["sha256", "md5", "git"]
    hex: str
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a source.

    ``path`` is relative and has slashes, ``key`` is how the source knows it. ``tag`` is another one whenever the
    content is; "" where the source has none. ``size_bytes`` is None where the source does not say.
    """

    path: str
    key: str
    tag: str
    size_bytes: int | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is now. ``is_single`` for one model's file, with what belongs to it, instead of a directory.

    ``directories`` are those that the source knows of although no file is in them.
    """

    files: Sequence[RemoteFile]
    is_single: bool = False
    directories: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """A file's bytes from the offset ``start`` on, which may be less than was asked for. Close ``chunks`` after use."""

    start: int
    chunks: Generator[bytes, None, None]


class Source(Protocol):
    """Somewhere to fetch models from. Used from several threads at once; everything raises SourceFailure."""

    def listing(self) -> Listing:
        """Every file there is, in no order; never an empty listing."""
        ...

    def read(self, file: RemoteFile, start: int) -> Body:
        """The bytes of ``file``; SourceChanged if it is another one now than the one with this tag."""
        ...
