import hashlib
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, serving

from ortolan.repository.sources.download import Downloads
from ortolan.repository.sources.http_client import HttpClient
from ortolan.repository.sources.remote_file import (
    Body,
    Corrupt,
    Digest,
    Listing,
    RemoteFile,
    SourceChanged,
    SourceFailure,
    SourceUnreachable,
    Stopped,
)
from ortolan.repository.sources.source_address import WebAddress
from ortolan.repository.sources.web_file import WebFile

PATH = "/model.onnx"
CONTENT = hashlib.sha256(b"seed").digest() * 100_000  # 3.2 MB
MD5 = hashlib.md5(CONTENT).hexdigest()  # noqa: S324 - as object stores use it
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({PATH: CONTENT})) as server:
        yield server


class Fetching:
    """Downloads of the one file, and what they told."""

    def __init__(self, server: FileServer, directory: Path) -> None:
        self.stopping = threading.Event()
        client = HttpClient(self.stopping, timeout_s=5, first_delay_s=0.001)
        self._url = server.url + PATH
        self._server = server
        source = WebFile(WebAddress(self._url), {"HOME": "/"}, client)
        self._downloads = Downloads(source, directory, self.stopping, first_delay_s=0.001)
        self.arrived = 0

    def file(self, digest: Digest | None = None, tag: str | None = None, size: int | None = len(CONTENT)) -> RemoteFile:
        return RemoteFile("m/model.onnx", self._url, self._server.etag(PATH) if tag is None else tag, size, digest)

    def __call__(self, file: RemoteFile, tags_are_hashes: bool = True) -> tuple[bytes, str, bool]:
        fetched = self._downloads.fetch(file, self._count, tags_are_hashes)
        return fetched.partial.read_bytes(), fetched.sha256, fetched.tag_is_hash

    def _count(self, size: int) -> None:
        self.arrived += size


@pytest.fixture
def fetching(server: FileServer, tmp_path: Path) -> Fetching:
    return Fetching(server, tmp_path)


@pytest.mark.parametrize(
    "digest",
    [
        None,
        Digest("sha256", SHA256),
        Digest("sha256", SHA256.upper()),
        Digest("md5", MD5, is_certain=False),
        Digest("git", hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()),  # noqa: S324 - as git does
    ],
)
def test_a_file_arrives_whole_and_is_checked(fetching: Fetching, digest: Digest | None) -> None:
    assert fetching(fetching.file(digest)) == (CONTENT, SHA256, True)
    assert fetching.arrived == len(CONTENT)


def test_an_interrupted_download_goes_on_where_it_ended(server: FileServer, fetching: Fetching) -> None:
    server.cut_after = [1_500_000, 1_200_000]
    assert fetching(fetching.file())[0] == CONTENT
    ranges = [seen.headers.get("range") for seen in server.asked(PATH)]
    assert ranges == [None, "bytes=1500000-", "bytes=2700000-"]
    assert fetching.arrived == len(CONTENT)


def test_another_process_goes_on_where_an_earlier_one_ended(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [1000, 1000, 1000, 1000]
    with pytest.raises(SourceUnreachable):
        Fetching(server, tmp_path)(Fetching(server, tmp_path).file())
    later = Fetching(server, tmp_path)
    assert later(later.file())[0] == CONTENT
    assert server.seen[-1].headers["range"] == "bytes=4000-"
    assert later.arrived == len(CONTENT)


def test_a_server_without_ranges_begins_anew(server: FileServer, fetching: Fetching) -> None:
    server.has_ranges = False
    server.cut_after = [1_500_000]
    assert fetching(fetching.file())[0] == CONTENT
    assert fetching.arrived == len(CONTENT)


def test_a_file_that_changed_meanwhile_is_not_put_together_from_both(server: FileServer, fetching: Fetching) -> None:
    file = fetching.file()
    server.cut_after = [1000, 1000, 1000, 1000]
    with pytest.raises(SourceUnreachable):
        fetching(file)
    server.files[PATH] = CONTENT[::-1]
    with pytest.raises(SourceChanged):
        fetching(file)
    assert fetching(fetching.file())[0] == CONTENT[::-1]


def test_a_file_without_a_tag_is_never_gone_on_with(server: FileServer, fetching: Fetching) -> None:
    server.cut_after = [1000, 1000, 1000, 1000]
    with pytest.raises(SourceUnreachable):
        fetching(fetching.file(tag=""))
    assert fetching(fetching.file(tag=""))[0] == CONTENT
    assert "range" not in server.seen[-1].headers


def test_what_arrived_spoilt_is_fetched_once_more(server: FileServer, fetching: Fetching) -> None:
    server.spoil = [123]
    assert fetching(fetching.file(Digest("sha256", SHA256)))[0] == CONTENT
    assert fetching.arrived == len(CONTENT)


@pytest.mark.parametrize("digest", [Digest("sha256", SHA256), Digest("md5", MD5, is_certain=False)])
def test_what_arrives_spoilt_twice_is_refused_and_not_kept(
    server: FileServer, fetching: Fetching, digest: Digest, tmp_path: Path
) -> None:
    server.spoil = [123, 456]
    with pytest.raises(Corrupt):
        fetching(fetching.file(digest))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) // 2])
def test_more_than_there_should_be_is_refused(fetching: Fetching, size: int) -> None:
    with pytest.raises(Corrupt):
        fetching(fetching.file(size=size))


def test_less_than_there_should_be_is_refused(fetching: Fetching) -> None:
    with pytest.raises((SourceUnreachable, SourceChanged)):
        fetching(fetching.file(size=len(CONTENT) + 1))


def test_an_etag_that_only_looks_like_an_md5_costs_one_more_download(server: FileServer, fetching: Fetching) -> None:
    file = fetching.file(Digest("md5", "0" * 32, is_certain=False))
    assert fetching(file) == (CONTENT, SHA256, False)
    assert len(server.seen) == 2
    (next(iter(Path(fetching._downloads._directory).iterdir()))).unlink()
    assert fetching(file, tags_are_hashes=False) == (CONTENT, SHA256, False)
    assert len(server.seen) == 3


def test_an_empty_file_arrives(server: FileServer, fetching: Fetching) -> None:
    server.files[PATH] = b""
    assert fetching(fetching.file(size=0))[0] == b""
    assert fetching(fetching.file(size=None))[0] == b""


def test_a_server_that_stops_ends_the_download_and_keeps_what_arrived(
    server: FileServer, fetching: Fetching, tmp_path: Path
) -> None:
    server.cut_after = [1_100_000]
    fetching.stopping.set()
    with pytest.raises(Stopped):
        fetching(fetching.file())


def test_a_file_without_a_size_may_not_take_all_room(server: FileServer, tmp_path: Path) -> None:
    """An endless answer would fill the disk, and what is kept of it to go on with would leave it full."""
    source = _Endless()
    downloads = Downloads(source, tmp_path, threading.Event(), room=lambda: 5 << 20)
    file = RemoteFile("m/model.onnx", "k", "tag")
    with pytest.raises(SourceFailure, match="takes too much of the room"):
        downloads.fetch(file, lambda _: None)
    assert source.sent <= 7
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0


class _Endless:
    """A source of one file that does not end."""

    sent = 0

    def listing(self) -> Listing:
        return Listing([])

    def read(self, file: RemoteFile, start: int) -> Body:  # noqa: ARG002 - there is only one
        return Body(start, self._chunks())

    def _chunks(self) -> Generator[bytes, None, None]:
        while True:
            self.sent += 1
            yield bytes(1 << 20)
