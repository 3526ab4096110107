import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, serving

from ortolan.repository.sources.http_client import HttpClient
from ortolan.repository.sources.remote_file import Digest, SourceChanged, SourceFailure, SourceUnreachable
from ortolan.repository.sources.source_address import WebAddress
from ortolan.repository.sources.web_file import WebDirectory, WebFile, read_sums

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({"/m/a.onnx": CONTENT})) as server:
        yield server


@pytest.fixture
def client() -> HttpClient:
    return HttpClient(threading.Event(), timeout_s=5, first_delay_s=0.001)


def web_file(server: FileServer, client: HttpClient, path: str = "/m/a.onnx", sha256: str = "") -> WebFile:
    return WebFile(WebAddress(server.url + path, sha256), {"HOME": "/nowhere"}, client)


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_file_has_a_size_and_the_etag_as_its_tag(server: FileServer, client: HttpClient, has_ranges: bool) -> None:
    server.has_ranges = has_ranges
    listing = web_file(server, client).listing()
    (file,) = listing.files
    assert listing.is_single
    assert (file.path, file.size_bytes, file.tag) == ("a.onnx", len(CONTENT), server.etag("/m/a.onnx"))


def test_a_hash_in_the_address_is_what_the_file_must_have(server: FileServer, client: HttpClient) -> None:
    (file,) = web_file(server, client, sha256="ab" * 32).listing().files
    assert (file.digest, file.tag) == (Digest("sha256", "ab" * 32), "ab" * 32)


def test_a_hash_that_the_server_sends_is_used(server: FileServer, client: HttpClient) -> None:
    server.headers["/m/a.onnx"] = {"Repr-Digest": "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"}
    (file,) = web_file(server, client).listing().files
    assert file.digest == Digest("sha256", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")


def test_without_an_etag_the_date_is_the_tag_and_without_that_there_is_none(
    server: FileServer, client: HttpClient
) -> None:
    server.has_etags = False
    assert web_file(server, client).listing().files[0].tag == ""
    server.headers["/m/a.onnx"] = {"Last-Modified": "Mon, 05 Jan 2026 10:00:00 GMT"}
    assert web_file(server, client).listing().files[0].tag == "Mon, 05 Jan 2026 10:00:00 GMT"


@pytest.mark.parametrize(("has_ranges", "start"), [(True, 1000), (False, 0)])
def test_reading_goes_on_where_the_server_can(
    server: FileServer, client: HttpClient, has_ranges: bool, start: int
) -> None:
    server.has_ranges = has_ranges
    source = web_file(server, client)
    body = source.read(source.listing().files[0], 1000)
    assert (body.start, b"".join(body.chunks)) == (start, CONTENT[start:])


@pytest.mark.parametrize("start", [0, 1000])
def test_a_file_that_changed_since_it_was_listed_is_not_read(
    server: FileServer, client: HttpClient, start: int
) -> None:
    source = web_file(server, client)
    (file,) = source.listing().files
    server.files["/m/a.onnx"] = CONTENT[:500]
    with pytest.raises(SourceChanged):
        source.read(file, start)


def test_what_ends_too_early_is_told(server: FileServer, client: HttpClient) -> None:
    source = web_file(server, client)
    (file,) = source.listing().files
    server.cut_after = [300]
    with pytest.raises(SourceUnreachable, match=r"ended \d+ bytes too early|broke off"):
        list(source.read(file, 0).chunks)


def test_a_directory_without_a_list_of_its_files_says_that_it_needs_one(server: FileServer, client: HttpClient) -> None:
    directory = WebDirectory(WebAddress(f"{server.url}/m/?sig=secret"), {"HOME": "/nowhere"}, client)
    with pytest.raises(SourceFailure, match="a directory on a web server needs a SHA256SUMS") as error:
        directory.listing()
    assert f"or name a file, such as {server.url}/m/model.onnx" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "said"), [(404, "there is no such thing"), (403, "access is denied"), (401, "access"), (400, "refuses")]
)
def test_refusals_are_told_without_the_signature_and_not_asked_for_again(
    server: FileServer, client: HttpClient, status: int, said: str
) -> None:
    server.failing = [status]
    with pytest.raises(SourceFailure, match=said) as error:
        web_file(server, client, "/m/a.onnx?sig=secret").listing()
    assert "secret" not in str(error.value)
    assert len(server.seen) == 1


def test_failures_of_the_server_are_tried_again_a_few_times(server: FileServer, client: HttpClient) -> None:
    server.failing = [503, 500]
    assert web_file(server, client).listing().files
    server.failing = [503] * 10
    with pytest.raises(SourceUnreachable, match="HTTP status 503"):
        web_file(server, client).listing()
    assert len(server.failing) == 6


def test_a_server_that_is_not_there_is_told_without_the_signature(client: HttpClient) -> None:
    source = WebFile(WebAddress("http://127.0.0.1:9/a.onnx?sig=secret"), {"HOME": "/nowhere"}, client)
    with pytest.raises(SourceUnreachable, match="Connection refused") as error:
        source.listing()
    assert "secret" not in str(error.value)


def test_credentials_of_netrc_go_to_their_host_only(server: FileServer, client: HttpClient, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    with serving(FileServer({"/elsewhere.onnx": CONTENT})) as other:
        server.redirects["/b.onnx"] = f"{other.url}/elsewhere.onnx"
        server.redirects["/c.onnx"] = f"{server.url}/m/a.onnx"
        for path in ("/b.onnx", "/c.onnx"):
            WebFile(WebAddress(server.url + path), {"NETRC": str(netrc)}, client).listing()
        assert [seen.headers.get("authorization") for seen in server.seen] == ["Basic bWU6c2VjcmV0"] * 3
        assert [seen.headers.get("authorization") for seen in other.seen] == [None]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_lead_to_the_web_only(server: FileServer, client: HttpClient, target: str) -> None:
    server.redirects["/m/a.onnx"] = target
    with pytest.raises(SourceFailure):
        web_file(server, client).listing()


def test_redirects_in_a_circle_end(server: FileServer, client: HttpClient) -> None:
    server.redirects["/m/a.onnx"] = server.url + "/m/a.onnx"
    with pytest.raises(SourceFailure):
        web_file(server, client).listing()


def test_a_directory_is_what_its_list_of_hashes_names(server: FileServer, client: HttpClient) -> None:
    hashed = hashlib.sha256(CONTENT).hexdigest()
    server.files["/r/SHA256SUMS"] = f"{hashed}  ./m/1/model.onnx\n{'0' * 64} *m/a b.txt\n".encode()
    server.files["/r/m/a b.txt"] = b"text"
    listing = WebDirectory(WebAddress(f"{server.url}/r/"), {"HOME": "/nowhere"}, client).listing()
    assert not listing.is_single
    assert [file.path for file in listing.files] == ["m/1/model.onnx", "m/a b.txt", "SHA256SUMS"]
    assert listing.files[0].digest == Digest("sha256", hashed)
    source = WebDirectory(WebAddress(f"{server.url}/r/"), {"HOME": "/nowhere"}, client)
    assert b"".join(source.read(listing.files[1], 0).chunks) == b"text"


@pytest.mark.parametrize("text", ["", "\n", "nonsense", f"{'0' * 63}  a", f"{'0' * 64} a", f"{'0' * 64}  "])
def test_a_list_that_sha256sum_would_not_write_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|empty"):
        read_sums(text)


def test_a_file_with_a_date_only_is_not_gone_on_with_once_it_is_another(server: FileServer, client: HttpClient) -> None:
    server.has_etags = False
    server.headers["/m/a.onnx"] = {"Last-Modified": "Mon, 05 Jan 2026 10:00:00 GMT"}
    source = web_file(server, client)
    (file,) = source.listing().files
    assert source.read(file, 1000).start == 1000
    server.headers["/m/a.onnx"] = {"Last-Modified": "Mon, 05 Jan 2026 10:00:01 GMT"}
    with pytest.raises(SourceChanged):
        source.read(file, 1000)
