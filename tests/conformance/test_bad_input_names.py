"""Bad names of models and files, row by row: refused, and nothing written.

The rows are numbered as in our list of bad input; 59 to 67 are these.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from conformance.both_frontends import Asker, as_json, assert_answers
from conformance.served import Served

DOUBLER = onnx_models.doubler().SerializeToString()
FILE = "file:1/model.onnx"


@pytest.fixture
def asker(bad_input: Served) -> Iterator[Asker]:
    asker = Asker(bad_input.server)
    yield asker
    asker.close()


@pytest.fixture
def tree(bad_input: Served) -> Iterator[Path]:
    """The directory that the repository is in, which a test must leave as it is."""
    root = bad_input.log.parent
    before = _content(root)
    yield root
    assert _content(root) == before


def _content(root: Path) -> dict[str, int]:
    files = [path for path in root.rglob("*") if path.name != "log"]
    return {str(path): path.stat().st_mtime_ns for path in files}


# -- names of models ---------------------------------------------------------------------------------------------------

ONE_NAME = "the model's name must be one directory's name"
EMPTY = "the model's name must not be empty"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *(
            (name, ONE_NAME)
            for name in ("../etc", "a/../b", "..", "/etc", "model/", " ..", ".. ", ".", "a\\b", "..\\etc")
        ),
        *((name, EMPTY) for name in ("", " ", "\t", "\n", "\r\n \v")),
    ],
)
def test_rows_59_and_60_a_name_that_leads_elsewhere_or_is_none_is_refused(
    asker: Asker, tree: Path, name: str, said: str
) -> None:
    status, error = asker.load_grpc(name)
    assert (status, said in error) == (400, True), error
    status, error = asker.load_http(name)
    # A path with such a name in it is none of the routes'.
    nowhere = "/" in name or not name
    assert (status, ("Not Found" if nowhere else said) in error) == (404 if nowhere else 400, True), error
    assert_answers(asker)


@pytest.mark.parametrize("name", ["...", "..m", "m..1", "-", "größer", "'; drop table"])
def test_row_61_a_name_that_is_only_unusual_is_one_that_is_not_there(asker: Asker, tree: Path, name: str) -> None:
    for load in (asker.load_grpc, asker.load_http):
        status, error = load(name)
        assert (status, "no such model in it" in error) == (400, True), error
    assert_answers(asker)


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc", "%2e%2e", "..", "%00", "a%00b", "%ff", "%ff%fe", "%", "%zz", "%c0%af"]
)
@pytest.mark.parametrize("tail", ["", "/ready", "/config", "/stats", "/versions/1"])
def test_rows_62_and_63_a_strange_name_in_the_path_is_no_model(asker: Asker, name: str, tail: str) -> None:
    reply = asker.http.get(f"/v2/models/{name}{tail}")
    # Of a model that is not there statistics are a bad request, as in Triton.
    known_route = tail == "/stats" and "is not available" in reply.json["error"]
    assert reply.status == (400 if known_route else 404), reply.body
    assert_answers(asker)


# -- files that come with a load ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../../root/.bashrc", "/etc/passwd", "1/../../x", "..", ".", "", "1//model.onnx", "1/./model.onnx",
        "./1/model.onnx", "1\\..\\x", "1/model.onnx/", "a\0b",
    ],
)  # fmt: skip
def test_row_64_a_file_that_would_lie_elsewhere_is_refused(asker: Asker, tree: Path, path: str) -> None:
    parameters = {"config": "{}", FILE: DOUBLER, f"file:{path}": b"any content"}
    for load in (asker.load_grpc, asker.load_http):
        status, error = load("sent", parameters)
        assert (status, "expected a path inside the model's directory" in error) == (400, True), error
    assert_answers(asker)


def test_row_65_a_link_in_the_repository_is_not_written_through(asker: Asker, bad_input: Served) -> None:
    """What is sent becomes a directory of its own, so that no link of the repository can be in its path."""
    root = bad_input.log.parent
    kept = root / "elsewhere" / "model.onnx"
    onnx_models.save(onnx_models.adder(7), kept)
    before = kept.read_bytes()
    linked = root / "models" / "linked"
    linked.mkdir()
    (linked / "1").symlink_to(kept.parent)
    reply = asker.http.post(
        "/v2/repository/models/linked/load",
        json.dumps({"parameters": as_json({"config": "{}", FILE: DOUBLER})}),
    )
    assert reply.status == 200, reply.body
    ones = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1] * 4}
    assert asker.http.infer("linked", {"inputs": [ones]}).json["outputs"][0]["data"] == [2] * 4
    assert kept.read_bytes() == before
    assert asker.post("/v2/repository/models/linked/unload") == (200, "")
    (linked / "1").unlink()
    linked.rmdir()


@pytest.mark.parametrize("path", ["x" * 256, "1/" + "x" * 256, "ü" * 128, "/".join(["x" * 200] * 6)])
def test_row_66_a_name_that_no_file_can_have_is_refused(asker: Asker, tree: Path, path: str) -> None:
    parameters = {"config": "{}", FILE: DOUBLER, f"file:{path}": b"any content"}
    for load in (asker.load_grpc, asker.load_http):
        status, error = load("sent", parameters)
        assert (status, "the path is too long" in error, len(error) < 500) == (400, True, True), error
    assert_answers(asker)


def test_row_67_files_need_a_configuration_beside_them(asker: Asker, tree: Path) -> None:
    for load in (asker.load_grpc, asker.load_http):
        status, error = load("sent", {FILE: DOUBLER})
        assert status == 400
        assert error.startswith("load parameter 'config' is required when files are given")
    assert_answers(asker)
