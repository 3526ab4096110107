"""Against docker's registry, where it is installed, and a server of this machine that asks for tokens as others do."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import object_stores
import pytest
from file_servers import FileServer, Seen, serving

from ortolan.repository.sources.http_client import HttpClient
from ortolan.repository.sources.oci_registry import OciRegistry, registry_credentials
from ortolan.repository.sources.remote_file import Body, Digest, Listing, SourceFailure
from ortolan.repository.sources.source_address import OciAddress

MODEL = b"onnx" * 5000
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(title: str | None, content: bytes, **annotations: str) -> dict[str, object]:
    titles = {"org.opencontainers.image.title": title} if title else {}
    found = {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}
    return {**found, "annotations": {**titles, **annotations}}


def manifest(*layers: dict[str, object]) -> bytes:
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": list(layers)}
    ).encode()


WHOLE = manifest(layer("digits/1/model.onnx", MODEL), layer("digits/config.pbtxt", b"\n"))


@pytest.fixture
def server() -> Iterator[FileServer]:
    files = {f"/v2/team/digits/blobs/{digest_of(MODEL)}": MODEL, "/v2/team/digits/manifests/1.0": WHOLE}
    with serving(FileServer(files)) as server:
        yield server


def source(server: FileServer, reference: str = "1.0", **environment: str) -> OciRegistry:
    address = OciAddress(server.url.partition("://")[2], "team/digits", reference)
    client = HttpClient(threading.Event(), timeout_s=5, first_delay_s=0.001)
    return OciRegistry(address, {"HOME": "/nowhere", **environment}, client)


def read(body: Body) -> bytes:
    return b"".join(body.chunks)


def check(listing: Listing) -> None:
    assert [file.path for file in listing.files] == ["digits/1/model.onnx", "digits/config.pbtxt"]
    assert listing.files[0].digest == Digest("sha256", digest_of(MODEL)[7:])
    assert listing.files[0].size_bytes == len(MODEL)


def test_layers_with_a_title_are_files(server: FileServer) -> None:
    artifact = source(server)
    check(artifact.listing())
    assert read(artifact.read(artifact.listing().files[0], 100)) == MODEL[100:]


def test_an_artifact_is_named_by_its_digest_as_well(server: FileServer) -> None:
    server.files[f"/v2/team/digits/manifests/{digest_of(WHOLE)}"] = WHOLE
    check(source(server, digest_of(WHOLE)).listing())
    server.files[f"/v2/team/digits/manifests/{digest_of(WHOLE)}"] = WHOLE + b" "
    with pytest.raises(SourceFailure, match="does not have this digest"):
        source(server, digest_of(WHOLE)).listing()


def with_login(server: FileServer, password: str = "") -> None:
    """Want a token, which is given out to anyone, or for a password."""
    server.put_json("/token", {"token": "secret-token"})
    basic = base64.b64encode(f"me:{password}".encode()).decode()
    challenge = f'Bearer realm="{server.url}/token",service="registry",scope="repository:team/digits:pull"'

    def wanted(seen: Seen) -> tuple[int, dict[str, str]] | None:
        given = seen.headers.get("authorization")
        if seen.path == "/token":
            return None if not password or given == f"Basic {basic}" else (401, {})
        return None if given == "Bearer secret-token" else (401, {"WWW-Authenticate": challenge})

    server.wanted = wanted


def test_a_token_is_asked_for_once_where_the_registry_wants_one(server: FileServer) -> None:
    with_login(server)
    artifact = source(server)
    check(artifact.listing())
    assert read(artifact.read(artifact.listing().files[0], 0)) == MODEL
    assert len(server.asked("/token")) == 1


def test_credentials_are_those_of_docker(server: FileServer, tmp_path: Path) -> None:
    with_login(server, "pass-word")
    host = server.url.partition("://")[2]
    auth = base64.b64encode(b"me:pass-word").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    check(source(server, DOCKER_CONFIG=str(tmp_path)).listing())
    with pytest.raises(SourceFailure, match="access is denied"):
        source(server).listing()


def test_the_token_does_not_follow_to_where_the_blobs_are(server: FileServer) -> None:
    with_login(server)
    with serving(FileServer({"/signed": MODEL})) as elsewhere:
        path = f"/v2/team/digits/blobs/{digest_of(MODEL)}"
        server.redirects[path] = f"{elsewhere.url}/signed"
        del server.files[path]
        artifact = source(server)
        assert read(artifact.read(artifact.listing().files[0], 0)) == MODEL
        assert [seen.headers.get("authorization") for seen in elsewhere.seen] == [None]


def test_credentials_are_not_sent_to_a_strangers_http(server: FileServer) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:9/token"'}
    server.wanted = lambda _: (401, challenge)
    with pytest.raises(SourceFailure, match="a login that is not understood"):
        source(server).listing()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (manifest(), "nothing in this artifact"),
        (manifest(layer(None, MODEL)), "a layer that is not a file with a title"),
        (manifest(layer("m", MODEL, **{"io.deis.oras.content.unpack": "true"})), "push the files themselves"),
        (manifest({"digest": "md5:0", "annotations": {"org.opencontainers.image.title": "m"}}), "a layer that is not"),
        (b'{"manifests": []}', "no artifact with files"),
        (b"[]", "no artifact with files"),
        (b'{"layers": [3]}', "a layer that is not"),
        (b"nonsense", "no JSON"),
    ],
)
def test_what_is_no_artifact_of_files_is_told(server: FileServer, content: bytes, said: str) -> None:
    server.files["/v2/team/digits/manifests/1.0"] = content
    with pytest.raises(SourceFailure, match=said):
        source(server).listing()


def test_what_is_not_there_is_told(server: FileServer) -> None:
    with pytest.raises(SourceFailure, match="there is no such thing"):
        source(server, "2.0").listing()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"auths": 3}', '{"auths": {"r": {"auth": "!"}}}', '{"auths": {"r": {}}}']
)
def test_a_file_of_dockers_that_makes_no_sense_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert registry_credentials("r", {"DOCKER_CONFIG": str(tmp_path)}) == ""


def test_dockers_own_registry_is_read(tmp_path: Path) -> None:
    with object_stores.registry(tmp_path) as host:
        for blob in (MODEL, b"\n", b"{}"):
            push_blob(host, blob)
        url = f"http://{host}/v2/team/digits/manifests/1.0"
        request = Request(url, data=WHOLE, method="PUT", headers={"Content-Type": MANIFEST_TYPE})
        with urlopen(request, timeout=10):  # noqa: S310
            pass
        client = HttpClient(threading.Event())
        for reference in ("1.0", digest_of(WHOLE)):
            artifact = OciRegistry(OciAddress(host, "team/digits", reference), {"HOME": "/nowhere"}, client)
            check(artifact.listing())
            assert read(artifact.read(artifact.listing().files[0], 1000)) == MODEL[1000:]


def push_blob(host: str, content: bytes) -> None:
    with urlopen(Request(f"http://{host}/v2/team/digits/blobs/uploads/", method="POST"), timeout=10) as answer:
        place = answer.headers["Location"]
    headers = {"Content-Type": "application/octet-stream"}
    separator = "&" if "?" in place else "?"
    request = Request(f"{place}{separator}digest={digest_of(content)}", data=content, method="PUT", headers=headers)  # noqa: S310
    with urlopen(request, timeout=10):  # noqa: S310
        pass


def test_who_is_redirected_to_does_not_say_where_credentials_go(server: FileServer, tmp_path: Path) -> None:
    """A store that blobs are redirected to, or who poses as it, asks for the registry's password."""
    with_login(server, "pass-word")
    host = server.url.partition("://")[2]
    auth = base64.b64encode(b"me:pass-word").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    with serving(FileServer()) as elsewhere:
        challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/caught"'}
        elsewhere.wanted = lambda _: (401, challenge)
        path = f"/v2/team/digits/blobs/{digest_of(MODEL)}"
        server.redirects[path] = f"{elsewhere.url}/signed"
        artifact = source(server, DOCKER_CONFIG=str(tmp_path))
        with pytest.raises(SourceFailure, match="access is denied"):
            read(artifact.read(artifact.listing().files[0], 0))
    assert server.asked("/caught") == []
