"""Against a server of this machine that speaks the two routes of the Hub's protocol that are used."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, serving

from ortolan.repository.sources.http_client import HttpClient
from ortolan.repository.sources.hugging_face import HuggingFace, hub_token
from ortolan.repository.sources.remote_file import Digest, SourceFailure
from ortolan.repository.sources.source_address import HubAddress

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TREE = f"/api/models/owner/repo/tree/{COMMIT}"
WEIGHTS = b"weights" * 1000


def entry(path: str, size: int = 1, sha256: str = "") -> dict[str, object]:
    found: dict[str, object] = {"type": "file", "path": path, "size": 130 if sha256 else size, "oid": "a" * 40}
    return found | ({"lfs": {"oid": sha256, "size": size, "pointerSize": 130}} if sha256 else {})


@pytest.fixture
def hub() -> Iterator[FileServer]:
    with serving(FileServer()) as server:
        server.put_json("/api/models/owner/repo/revision/main", {"sha": COMMIT})
        sha256 = hashlib.sha256(WEIGHTS).hexdigest()
        in_onnx = [
            entry("onnx/model.onnx", 10),
            entry("onnx/model.onnx_data", len(WEIGHTS), sha256),
            entry("onnx/model_q4.onnx"),
        ]
        others = [entry("model.safetensors"), entry("pytorch_model.bin"), entry("weights.bin"), entry("vocab/a.txt")]
        server.put_json(f"{TREE}?recursive=true", [*in_onnx, {"type": "directory", "path": "onnx"}])
        following = f"{server.url}{TREE}?recursive=true&cursor=2"
        server.headers[f"{TREE}?recursive=true"] = {"Link": f'<{following}>; rel="next"'}
        server.put_json(f"{TREE}?recursive=true&cursor=2", others)
        server.put_json(f"{TREE}/onnx?recursive=true", in_onnx)
        server.put_json(f"{TREE}/onnx?recursive=false", in_onnx)
        server.files[f"/owner/repo/resolve/{COMMIT}/onnx/model.onnx_data"] = WEIGHTS
        yield server


OPENS = "hf_secret"


def source(hub: FileServer, path: str = "", token: str = "") -> HuggingFace:
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HOME": "/nowhere"}
    client = HttpClient(threading.Event(), timeout_s=5, first_delay_s=0.001)
    return HuggingFace(HubAddress("owner/repo", path), environment, client)


def test_all_pages_are_listed_without_the_weights_of_other_frameworks(hub: FileServer) -> None:
    listing = source(hub).listing()
    assert not listing.is_single
    assert [file.path for file in listing.files] == [
        "onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_q4.onnx", "weights.bin", "vocab/a.txt",
    ]  # fmt: skip


def test_large_files_have_a_sha256_and_small_ones_gits_hash(hub: FileServer) -> None:
    small, large, _ = source(hub, "onnx").listing().files
    assert (small.path, small.size_bytes, small.digest) == ("model.onnx", 10, Digest("git", "a" * 40))
    assert (large.size_bytes, large.digest) == (len(WEIGHTS), Digest("sha256", hashlib.sha256(WEIGHTS).hexdigest()))


def test_a_single_model_comes_with_its_external_data(hub: FileServer) -> None:
    listing = source(hub, "onnx/model.onnx").listing()
    assert listing.is_single
    assert [file.path for file in listing.files] == ["model.onnx", "model.onnx_data"]


def test_files_are_read_from_the_commit_that_was_listed(hub: FileServer) -> None:
    repository = source(hub, "onnx")
    large = repository.listing().files[1]
    hub.put_json("/api/models/owner/repo/revision/main", {"sha": "f" * 40})
    assert b"".join(repository.read(large, 5000).chunks) == WEIGHTS[5000:]


def test_the_token_is_sent_to_the_hub_and_not_to_where_it_sends_the_reader(hub: FileServer) -> None:
    with serving(FileServer({"/signed": WEIGHTS})) as elsewhere:
        hub.redirects[f"/owner/repo/resolve/{COMMIT}/onnx/model.onnx_data"] = f"{elsewhere.url}/signed"
        del hub.files[f"/owner/repo/resolve/{COMMIT}/onnx/model.onnx_data"]
        repository = source(hub, "onnx", OPENS)
        assert b"".join(repository.read(repository.listing().files[1], 0).chunks) == WEIGHTS
        assert {seen.headers.get("authorization") for seen in hub.seen} == {"Bearer hf_secret"}
        assert [seen.headers.get("authorization") for seen in elsewhere.seen] == [None]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_private_or_not_there_is_told(hub: FileServer, status: int) -> None:
    hub.wanted = lambda _: (status, {})
    with pytest.raises(SourceFailure, match="no such repository or revision, or it is private") as error:
        source(hub, "", OPENS).listing()
    assert "hf_secret" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/models/owner/repo/revision/main", b"not json"),
        ("/api/models/owner/repo/revision/main", b"{}"),
        ("/api/models/owner/repo/revision/main", b'{"sha": "../../evil"}'),
        (f"{TREE}?recursive=true", b"{}"),
        (f"{TREE}?recursive=true", b'[{"type": "file"}]'),
        (f"{TREE}?recursive=true", b'[{"type": "file", "path": "a", "oid": "0", "size": []}]'),
    ],
)
def test_answers_that_make_no_sense_are_told(hub: FileServer, path: str, answer: bytes) -> None:
    hub.files[path] = answer
    with pytest.raises(SourceFailure, match=r"not as expected|no JSON"):
        source(hub).listing()


def test_the_next_page_is_never_asked_of_another_server(hub: FileServer) -> None:
    hub.headers[f"{TREE}?recursive=true"] = {"Link": '<http://127.0.0.1:9/steal>; rel="next"'}
    with pytest.raises(SourceFailure, match="not as expected"):
        source(hub, "", OPENS).listing()


def test_the_token_comes_from_where_the_hubs_tools_keep_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("kept\n")
    assert hub_token({"HF_TOKEN": "given", "HF_HOME": str(tmp_path)}) == "given"
    assert hub_token({"HF_HOME": str(tmp_path)}) == "kept"
    assert hub_token({"HF_TOKEN_PATH": str(tmp_path / "token")}) == "kept"
    assert hub_token({"HOME": "/nowhere"}) == ""
