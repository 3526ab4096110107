"""Bad files and configurations in a repository, row by row: the load fails with its reason, and the others serve on.

The rows are numbered as in our list of bad input; 68 to 80 are of repositories. Of these 69 and 70 are in
``test_private_copies``, for they are about whose files a model may have, and 75 is in ``test_hanging_models``.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import onnx_sequences
import pytest
from callers import ask, rest_body, row
from conformance.both_frontends import Asker
from onnx import TensorProto, helper
from server_process import ServerProcess, eventually, running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")

WHOLE = onnx_models.adder(1).SerializeToString()
LABELLED = 'output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "{}" }} ]'
DAMAGED = "Protobuf parsing failed"
Made = Callable[[Path], object]
"""Makes the model in its directory, which is empty."""

BAD: dict[str, tuple[Made, str]] = {}
"""Row and case → the model, and what the refusal has to say of it."""


def bad(said: str) -> Callable[[Made], Made]:
    def keep(made: Made) -> Made:
        BAD[made.__name__] = (made, said)
        return made

    return keep


def each(pattern: str, cases: dict[str, tuple[str | bytes, str]], made: Callable[[Path, Any], object]) -> None:
    for name, (given, said) in cases.items():
        BAD[pattern.format(name)] = (lambda model, given=given: made(model, given), said)


# -- label files -------------------------------------------------------------------------------------------------------


def labelled(model: Path, filename: str) -> None:
    onnx_models.save_version(model.parent, model.name, onnx_models.adder(1), config=LABELLED.format(filename))


each(
    "row_68_{}",
    {
        "upwards": ("../secret", "label_filename '../secret' must be a relative name inside the model's directory"),
        "absolute": ("/etc/passwd", "label_filename '/etc/passwd' must be a relative name inside the model's"),
        "missing": ("labels.txt", "label_filename 'labels.txt' is not there"),
    },
    labelled,
)


@bad("cannot be read as a configuration at line 1; its text is not shown, because it lies outside the model's")
def row_68_config_linked(model: Path) -> None:
    """No label file, but as that it could tell what is in another one."""
    onnx_models.save_version(model.parent, model.name, onnx_models.adder(1))
    (model / "config.pbtxt").symlink_to(model.parent.parent / "password")


@bad("label_filename 'labels.txt' is a symbolic link that leads out of the model's directory")
def row_68_linked(model: Path) -> None:
    labelled(model, "labels.txt")
    (model / "labels.txt").symlink_to(model.parent / "secret")


@bad("label_filename 'labels.txt' cannot be read: not a regular file")
def row_68_pipe(model: Path) -> None:
    labelled(model, "labels.txt")
    os.mkfifo(model / "labels.txt")


@bad("label_filename 'labels.txt' is not UTF-8 text")
def row_68_no_text(model: Path) -> None:
    labelled(model, "labels.txt")
    (model / "labels.txt").write_bytes(b"\xff\xfe\x00")


@bad("the file 'x' in the model's warmup directory is a symbolic link that leads out of the model's directory")
def row_68_warm_up_linked(model: Path) -> None:
    """No label file, but as that it could tell what is in another one."""
    sample = 'inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "x" } }'
    config = f'max_batch_size: 1 model_warmup {{ name: "w" batch_size: 1 {sample} }}'
    onnx_models.save_version(model.parent, model.name, onnx_models.adder(1), config=config)
    (model / "warmup").mkdir()
    (model / "warmup" / "x").symlink_to(model.parent / "secret")


@bad("the file 'x' in the model's directory initial_state is a symbolic link that leads out of the model's directory")
def row_68_initial_state_linked(model: Path) -> None:
    initial = 'initial_state { name: "x" data_type: TYPE_FP32 dims: [ 1 ] data_file: "x" }'
    state = onnx_sequences.SUM.replace("dims: [ 1 ]", f"dims: [ 1 ] {initial}")
    onnx_models.save_version(model.parent, model.name, onnx_sequences.accumulator(), config=onnx_sequences.block(state))
    (model / "initial_state").mkdir()
    (model / "initial_state" / "x").symlink_to(model.parent / "secret")


# -- external data -----------------------------------------------------------------------------------------------------


def external(model: Path, places: dict[str, str]) -> None:
    """y = x + w, where the four numbers of w are to be found at ``places``; the file has 16 bytes."""
    proto = onnx_models.model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
    )
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": "w.bin"} | places).items():
        weights.external_data.add(key=key, value=value)
    proto.graph.initializer.append(weights)
    onnx_models.save(proto, model / "1" / "model.onnx")
    (model / "1" / "w.bin").write_bytes(np.zeros(4, np.float32).tobytes())


for _name, _places in {
    "past_the_end": {"offset": "4096"},
    "negative_offset": {"offset": "-16"},
    "huge_offset": {"offset": str(2**63 - 1)},
    "no_number": {"offset": "many"},
    "too_long": {"length": "1048576"},
    "negative_length": {"length": "-1"},
    "partly_past_the_end": {"offset": "8", "length": "16"},
}.items():
    BAD[f"row_71_{_name}"] = (lambda model, places=_places: external(model, places), "ONNX Runtime cannot load model")


@bad("external data 'w.bin' is not there")
def row_71_missing(model: Path) -> None:
    external(model, {})
    (model / "1" / "w.bin").unlink()


@bad("external data 'w.bin' cannot be read: not a regular file")
def row_71_directory(model: Path) -> None:
    row_71_missing(model)
    (model / "1" / "w.bin").mkdir()


# -- model files -------------------------------------------------------------------------------------------------------


def content(model: Path, given: bytes) -> None:
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").write_bytes(given)


each(
    "row_72_{}",
    {
        "empty": (b"", "its file is empty"),
        "truncated": (WHOLE[: len(WHOLE) // 2], DAMAGED),
        "random": (random.Random(0).randbytes(5000), DAMAGED),
        "html": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20, "its file is an HTML page"),
        "pointer_of_git_lfs": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
            "git lfs pull",
        ),
        "large_and_truncated": (onnx_models.identity().SerializeToString() + b"\x12" + b"\xff" * (5 << 20), "damaged"),
        "zeros": (bytes(5000), "its file is full of zeros"),
    },
    content,
)


@bad("has no file 'model.onnx/model.onnx'; there is nothing instead")
def row_72_directory(model: Path) -> None:
    (model / "1" / "model.onnx").mkdir(parents=True)


@bad("has no file 'model.onnx'; there is 'Model.onnx' instead")
def row_72_missing(model: Path) -> None:
    onnx_models.save(onnx_models.adder(1), model / "1" / "Model.onnx")


@bad("'model.onnx' is no regular file, or a symbolic link that leads nowhere")
def row_72_link_to_nothing(model: Path) -> None:
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").symlink_to("nothing.onnx")


@bad("'model.onnx' is no regular file")
def row_72_pipe(model: Path) -> None:
    (model / "1").mkdir(parents=True)
    os.mkfifo(model / "1" / "model.onnx")


@bad("no version found")
def row_72_version_is_a_file(model: Path) -> None:
    model.mkdir()
    (model / "1").write_bytes(WHOLE)
    (model / "config.pbtxt").write_text("max_batch_size: 1")


@bad("Opset 999")
def row_73_opset(model: Path) -> None:
    proto = onnx_models.adder(1)
    proto.opset_import[0].version = 999
    onnx_models.save(proto, model / "1" / "model.onnx")


def made_of(node: onnx.NodeProto) -> onnx.ModelProto:
    proto = onnx_models.adder(1)
    proto.graph.node.append(node)
    return proto


@bad("Frobnicate")
def row_73_operator(model: Path) -> None:
    onnx_models.save(made_of(helper.make_node("Frobnicate", ["x"], ["z"])), model / "1" / "model.onnx")


@bad("com.example")
def row_73_domain(model: Path) -> None:
    proto = made_of(helper.make_node("Frobnicate", ["x"], ["z"], domain="com.example"))
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx_models.save(proto, model / "1" / "model.onnx")


# -- configurations ----------------------------------------------------------------------------------------------------


def configured(model: Path, text: str | bytes) -> None:
    onnx_models.save(onnx_models.adder(1), model / "1" / "model.onnx")
    (model / "config.pbtxt").write_bytes(text.encode() if isinstance(text, str) else text)


each(
    "row_76_{}",
    {
        "messages": ("input {" * 5000, "of model 'row_76_messages' cannot be read"),
        "lists": ("[" * 5000, "of model 'row_76_lists' cannot be read"),
        "anys": ("[a.b/c] {" * 300, "of model 'row_76_anys' cannot be read"),
    },
    configured,
)
each(
    "row_78_{}",
    {
        "typo": ('name: "row_78_typo"\n\nmax_batchsize: 3', 'unknown field "max_batchsize" at line 3; did you mean'),
        "value": ("\ninstance_group { kind: KIND_CUP }", 'unknown value "KIND_CUP" at line 2; did you mean "KIND_CPU"'),
        "another_name": ('name: "other"', "directory name must equal model name"),
        "no_text": (b"max_batch_size: 1\n\xff", "is not UTF-8 text: byte 0xff at line 2"),
        "too_long": (b"#" * (5 << 20), "is larger than 4194304 bytes"),
        "json": ('{"max_batch_size": 1}', "cannot be read"),
    },
    configured,
)
each(
    "row_79_{}",
    {
        "instances": ("instance_group { count: 1000000 }", "count must be between 1 and 4096, got 1000000"),
        "no_instances": ("instance_group { count: -1 }", "count must be between 1 and 4096, got -1"),
        "batch": ("max_batch_size: 2147483648", "Value out of range: 2147483648 at line 1"),
        "no_batch": ("max_batch_size: -1", "max_batch_size must be 0 or more, got -1"),
        "delay": ("dynamic_batching { max_queue_delay_microseconds: -1 }", "-1 at line 1"),
        "file": ('default_model_filename: "../../secret"', "default_model_filename '../../secret' must be a relative"),
        "no_version": ("version_policy { specific { versions: [ 7 ] } }", "but versions [1] are there"),
    },
    configured,
)


@bad("config.pbtxt of model 'row_78_pipe' cannot be read: not a regular file")
def row_78_pipe(model: Path) -> None:
    onnx_models.save(onnx_models.adder(1), model / "1" / "model.onnx")
    os.mkfifo(model / "config.pbtxt")


@bad("config.pbtxt of model 'row_78_directory' cannot be read: not a regular file")
def row_78_directory(model: Path) -> None:
    onnx_models.save(onnx_models.adder(1), model / "1" / "model.onnx")
    (model / "config.pbtxt").mkdir()


@bad("config.pbtxt of model 'row_78_link_to_nothing' is not there")
def row_78_link_to_nothing(model: Path) -> None:
    onnx_models.save(onnx_models.adder(1), model / "1" / "model.onnx")
    (model / "config.pbtxt").symlink_to("nothing.pbtxt")


@bad("ignored are '01' has a leading zero, 'abc' is not a number")
def row_80_only_strange_versions(model: Path) -> None:
    for name in ("01", "abc"):
        onnx_models.save(onnx_models.adder(1), model / name / "model.onnx")


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("bad")
    root = base / "models"
    onnx_models.save_version(root, "good", onnx_models.adder(1))
    (base / "secret").write_text("secret\n")
    (base / "password").write_text('hunter2: "hunter2"\n')
    (root / "secret").write_text("secret\n")
    for name, (made, _) in BAD.items():
        (root / name).mkdir()
        (root / name).rmdir()
        made(root / name)
    onnx_models.save_version(root, "row_74", sized())
    for version in ("1", "01", "abc", "-1", "99999999999999999999"):
        onnx_models.save(onnx_models.adder(1), root / "row_80" / version / "model.onnx")
    return base


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[ServerProcess]:
    flags = ("--model-control-mode=explicit", "--load-model=good", "--load-model=row_74", "--load-model=row_80")
    with running(base / "models", *flags, log=base / "log") as server:
        yield server
    assert "Traceback" not in (base / "log").read_text()


@pytest.fixture(scope="module")
def asker(server: ServerProcess) -> Iterator[Asker]:
    asker = Asker(server)
    yield asker
    asker.close()


@pytest.fixture
def unloaded(asker: Asker, model: str) -> Iterator[str]:
    """The name of a model, which is unloaded at the end; then the server is ready again."""
    yield model
    assert asker.post(f"/v2/repository/models/{model}/unload") == (200, "")
    assert asker.http.get("/v2/health/ready").status == 200


def index(server: ServerProcess) -> dict[str, tuple[str, str]]:
    entries = ask(server, "POST", "/v2/repository/index").json
    return {entry["name"]: (entry.get("state", ""), entry.get("reason", "")) for entry in entries}


def assert_good_answers(server: ServerProcess) -> None:
    reply = ask(server, "POST", "/v2/models/good/infer", rest_body(row(1)))
    assert (reply.status, reply.array.tolist()) == (200, [[2, 2, 2, 2]])


@pytest.mark.parametrize("model", BAD)
def test_rows_68_to_80_what_is_wrong_fails_the_load_and_is_told(
    asker: Asker, server: ServerProcess, base: Path, model: str, unloaded: str
) -> None:
    for load in (asker.load_http, asker.load_grpc):
        status, error = load(model)
        assert (status, BAD[model][1] in error) == (400, True), error
        assert error.startswith(f"load failed for model '{model}': ")
        assert str(base) not in error
        assert "secret\n" not in error
        assert "hunter2" not in error
    state, reason = index(server)[model]
    assert (state, BAD[model][1] in reason, str(base) in reason) == ("UNAVAILABLE", True, False), reason
    assert ask(server, "GET", f"/v2/models/{model}/ready").status != 200
    assert ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row())).status in (404, 503)
    assert_good_answers(server)


def test_row_72_no_flipped_bit_ends_the_server(server: ServerProcess) -> None:
    asker, chance = Asker(server), random.Random(72)
    statuses = set()
    for place in chance.sample(range(8 * len(WHOLE)), 60):
        flipped = bytearray(WHOLE)
        flipped[place // 8] ^= 1 << place % 8
        status, error = asker.load_http("flipped", {"config": "{}", "file:1/model.onnx": bytes(flipped)})
        statuses.add(status)
        assert status == 200 or error.startswith("load failed for model 'flipped': "), error
        assert "/onnxruntime" not in error
    asker.post("/v2/repository/models/flipped/unload")
    asker.close()
    assert statuses == {200, 400}
    assert_good_answers(server)


def sized() -> onnx.ModelProto:
    """y = so many zeros as x says."""
    return onnx_models.model(
        [helper.make_node("ConstantOfShape", ["x"], ["y"])],
        [("x", TensorProto.INT64, [1])],
        [("y", TensorProto.FLOAT, ["count"])],
    )


@pytest.mark.parametrize("count", [2**40, 2**60, 2**62, 2**63 - 1, -1])
def test_row_74_a_request_that_asks_for_more_memory_than_there_is_fails_alone(
    server: ServerProcess, base: Path, count: int
) -> None:
    reply = ask(server, "POST", "/v2/models/row_74/infer", rest_body(np.array([count], np.int64)))
    assert reply.status in (500, 503), reply.body
    assert "row_74" in reply.json["error"]
    assert "/" not in reply.json["error"]
    assert ask(server, "POST", "/v2/models/row_74/infer", rest_body(np.array([3], np.int64))).array.tolist() == [0] * 3
    assert_good_answers(server)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"a":' * 250 + "1" + "}" * 250, 'unknown field "a"'),
        ('{"parameters": {"k": ' * 250 + "1" + "}}" * 250, "parameters[k]"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 250 + "]" * 250, "expected an object at the top, got a list"),
    ],
    ids=["objects", "maps", "lists", "some_lists"],
)
def test_row_77_a_configuration_of_a_client_that_nests_deeply_is_refused(
    asker: Asker, server: ServerProcess, config: str, said: str
) -> None:
    for load in (asker.load_http, asker.load_grpc):
        status, error = load("good", {"config": config})
        assert (status, said in error, len(error) < 2000) == (400, True, True), error
    assert_good_answers(server)


def test_row_80_directories_that_are_no_versions_are_ignored_with_a_warning(server: ServerProcess, base: Path) -> None:
    assert index(server)["row_80"] == ("READY", "")
    assert ask(server, "GET", "/v2/models/row_80").json["versions"] == ["1"]
    log = eventually((base / "log").read_text)
    for said in (
        "'01' has a leading zero, ignored",
        "'abc' is not a number, ignored",
        "'-1' is not a number, ignored",
        "'99999999999999999999' is too large, ignored",
    ):
        assert f"model 'row_80': {said}" in log
    for version in ("01", "abc", "-1"):
        reply = ask(server, "POST", f"/v2/models/row_80/versions/{version}/infer", rest_body(row()))
        assert reply.status in (200, 400, 404), reply.body
