import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, serving

from ortolan.errors import StartupError
from ortolan.repository.sources.mirrors import Mirrors


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({"/a.onnx": b"a", "/b.onnx": b"b"})) as server:
        yield server


def test_paths_stay_and_addresses_get_a_place(server: FileServer, tmp_path: Path) -> None:
    mirrors = Mirrors(["/models", f"{server.url}/a.onnx", "relative", "/models"], {}, tmp_path)
    path, address, relative = mirrors.roots
    assert (path, relative) == (Path("/models"), Path("relative"))
    assert address.is_relative_to(tmp_path)
    assert address.name == "a.onnx"
    assert mirrors.refresh() == ()
    assert address.read_bytes() == b"a"


def test_paths_alone_cost_nothing(tmp_path: Path) -> None:
    mirrors = Mirrors(["/nowhere"], {}, tmp_path / "mirrors")
    assert mirrors.refresh() == ()
    assert not (tmp_path / "mirrors").exists()


@pytest.mark.parametrize(
    ("address", "directory", "environment", "place"),
    [
        ("https://h/m.onnx", None, {"HOME": "/home/me"}, "/home/me/.cache/ortolan/models"),
        ("https://h/m.onnx", None, {"HOME": "/home/me", "XDG_CACHE_HOME": "/cache"}, "/cache/ortolan/models"),
        ("https://h/m.onnx", "/given", {"XDG_CACHE_HOME": "/cache"}, "/given"),
        ("hf://o/r", None, {"HOME": "/h", "TRITON_AWS_MOUNT_DIRECTORY": "/aws"}, "/h/.cache/ortolan/models"),
        ("s3://bucket/p", None, {"HOME": "/h", "TRITON_AWS_MOUNT_DIRECTORY": "/aws"}, "/aws"),
        ("s3://bucket/p", "/given", {"HOME": "/h", "TRITON_AWS_MOUNT_DIRECTORY": "/aws"}, "/given"),
        ("gs://bucket/p", None, {"HOME": "/h", "TRITON_GCS_MOUNT_DIRECTORY": "/gcs"}, "/gcs"),
        ("as://acc/c/p", None, {"HOME": "/h", "TRITON_AZURE_MOUNT_DIRECTORY": "/az"}, "/az"),
    ],
)
def test_where_mirrors_are(address: str, directory: str | None, environment: dict[str, str], place: str) -> None:
    if address.partition("://")[0] in ("s3", "gs", "as"):
        pytest.importorskip("obstore")
    (root,) = Mirrors([address], environment, Path(directory) if directory else None).roots
    assert root.parents[2] == Path(place)


def test_each_address_has_a_place_of_its_own_that_shows_which_and_stays(tmp_path: Path) -> None:
    addresses = ["https://h/a/m.onnx", "https://h/a-m.onnx", "https://h/b/m.onnx", "hf://o/r", "hf://o/r@v1"]
    roots = Mirrors(addresses, {}, tmp_path).roots
    assert len({*roots}) == len(addresses)
    assert roots == Mirrors(addresses, {}, tmp_path).roots
    assert roots[0].parents[1].name.startswith("https-h-a-m.onnx-")


def test_a_new_signature_is_still_the_same_file(tmp_path: Path) -> None:
    roots = [Mirrors([f"https://h/m.onnx?sig={sig}"], {}, tmp_path).roots for sig in ("old", "new")]
    assert roots[0] == roots[1]
    with pytest.raises(StartupError, match=r"https://h/m\.onnx is given twice"):
        Mirrors(["https://h/m.onnx?sig=a", "https://h/m.onnx?sig=b"], {}, tmp_path)


def test_a_problem_is_logged_once_until_it_is_over(
    server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirrors = Mirrors([f"{server.url}/a.onnx", f"{server.url}/c.onnx"], {}, tmp_path)
    with caplog.at_level(logging.INFO, logger="ortolan.repository.sources.mirrors"):
        for _ in range(3):
            (problem,) = mirrors.refresh()
            assert problem.root == mirrors.roots[1]
        server.files["/c.onnx"] = b"c"
        assert mirrors.refresh() == ()
    messages = [record.message for record in caplog.records if record.name.endswith("mirrors")]
    assert messages == [problem.message, "all of the model repository can be fetched again"]
    assert mirrors.roots[0].read_bytes() == b"a"


def test_a_wrong_hash_in_the_address_is_refused(server: FileServer, tmp_path: Path) -> None:
    wrong = hashlib.sha256(b"b").hexdigest()
    (problem,) = Mirrors([f"{server.url}/a.onnx#sha256={wrong}"], {}, tmp_path).refresh()
    assert "twice, what arrived was not what it has to be" in problem.message
    right = hashlib.sha256(server.files["/a.onnx"]).hexdigest()
    assert f"expected SHA-256 {wrong[:12]}…, got {right[:12]}…" in problem.message
