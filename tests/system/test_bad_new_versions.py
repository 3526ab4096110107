"""New versions that are bad, in every way: the old one answers every request, and nothing of them stays behind.

Promises 9 and 12 of docs/reliability.md.
"""

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from callers import ask, rest_body, row
from reload_traffic import Traffic, control, descriptors, resident_mib
from server_process import ServerProcess, eventually, running

WHOLE = onnx_models.adder(2).SerializeToString()
NEW_MODELS = {
    "empty": b"",
    "cut off": WHOLE[: len(WHOLE) // 2],
    "random": bytes(range(256)) * 20,
    "a web page": b"<!doctype html><html><body>404</body></html>",
    "other tensors": onnx_models.gather().SerializeToString(),
}
NEW_CONFIGS = {
    "an unknown field": "max_batchsize: 4",
    "no text": "\0\0\0",
    "another datatype": 'input [ { name: "x" data_type: TYPE_INT64 dims: [ 4 ] } ]',
    "labels from elsewhere": 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "../x" } ]',
    "another backend": 'backend: "tensorflow"',
}  # fmt: skip
DECLARED = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ] max_batch_size: 4'
FAILED_LOADS = 200
MOST_MIB = 32


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[ServerProcess, Path]]:
    """A server, and the directory of its model ``m``, which adds 1."""
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(1), config=DECLARED)
    with running(tmp_path, "--model-control-mode=explicit", "--load-model=m", "--golden-requests=off") as server:
        yield server, tmp_path / "m"


def bad_states(model: Path) -> Iterator[str]:
    """Puts one bad state after the other into the model's directory, and names it."""
    for name, data in NEW_MODELS.items():
        (model / "2").mkdir()
        (model / "2" / "model.onnx").write_bytes(data)
        yield name
        shutil.rmtree(model / "2")
    for name, config in NEW_CONFIGS.items():
        (model / "config.pbtxt").write_text(config)
        yield name
    (model / "config.pbtxt").write_text(DECLARED)


def test_p9_whatever_is_wrong_with_a_new_version_the_old_one_answers_every_request(
    served: tuple[ServerProcess, Path],
) -> None:
    server, model = served
    traffic = Traffic(begun=1, completed=1)

    async def reload() -> dict[str, int]:
        over = asyncio.Event()
        sending = asyncio.create_task(traffic.send(server.http_port, "m", 100, over))
        statuses = {name: (await control(server.http_port, "m", "load"))[0] for name in bad_states(model)}
        over.set()
        await sending
        return statuses

    statuses = asyncio.run(reload())
    assert statuses == dict.fromkeys([*NEW_MODELS, *NEW_CONFIGS], 400)
    assert (traffic.failed, traffic.wrong) == ([], [])
    assert traffic.answers[1.0] > 0
    assert ask(server, "GET", "/v2/models/m").json["versions"] == ["1"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_p12_loads_that_fail_leave_neither_memory_nor_descriptors_behind(served: tuple[ServerProcess, Path]) -> None:
    server, model = served
    (model / "2").mkdir()
    (model / "2" / "model.onnx").write_bytes(WHOLE[:-20])

    async def fail(times: int) -> None:
        for _ in range(times):
            assert (await control(server.http_port, "m", "load"))[0] == 400

    pid = server.process.pid
    asyncio.run(fail(FAILED_LOADS // 10))
    before_mib, open_before = resident_mib(pid), descriptors(pid)
    asyncio.run(fail(FAILED_LOADS))
    eventually(lambda: descriptors(pid) <= open_before)
    assert resident_mib(pid) - before_mib < MOST_MIB
    assert ask(server, "POST", "/v2/models/m/infer", rest_body(row(1))).array.tolist() == [[2, 2, 2, 2]]
