"""System shared memory through every door, with the client library that Triton's users have."""

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
import tritonclient.utils.shared_memory as client_memory
from client_doors import DOORS, Door, client_of, region, regions_of
from onnx import TensorProto, helper
from server_process import ServerProcess, running
from shared_objects import needs_linux
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from ortolan.inference.datatypes import DATATYPES, Datatype

pytestmark = needs_linux

LIMITS = ("--max-queue-bytes=20000000", "--http-max-input-size=1000000")
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("shared_memory")
    for datatype in DATATYPES:
        identity = onnx_models.identity(datatype.onnx_element_type)
        onnx_models.save_version(root, f"identity_{datatype.name.lower()}", identity)
    onnx_models.save_version(root, "sum", total())
    onnx_models.save_version(root, "wide", onnx_models.identity(shape=("rows", "columns")))
    with running(root, "--allow-client-shm=true", *LIMITS) as started:
        yield started


def total() -> onnx.ModelProto:
    """y = x + c."""
    tensor = (TensorProto.FLOAT, ["rows", "columns"])
    node = helper.make_node("Add", ["x", "c"], ["y"])
    return onnx_models.model([node], [("x", *tensor), ("c", TensorProto.FLOAT, [1])], [("y", *tensor)])


def elements(datatype: Datatype) -> np.ndarray:
    """Eight elements; BF16 as its bits."""
    if datatype.name == "BYTES":
        return np.array([b"", b"a", b"\x00\xff", "ä".encode(), b"word", b"x" * 300, b"1", b" "], np.object_)
    if datatype.name == "BOOL":
        return np.arange(8) % 3 == 1
    return np.arange(1, 9).astype(datatype.numpy)


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
async def test_inputs_and_outputs_of_every_datatype(server: ServerProcess, door: Door, datatype: Datatype) -> None:
    array = elements(datatype).reshape(2, 4)
    data = serialize_byte_tensor(array) if datatype.name == "BYTES" else array
    size = len(data.item()) if datatype.name == "BYTES" else data.nbytes
    async with client_of(door, server) as client:
        with region(2 * size + 64) as (handle, key):
            client_memory.set_shared_memory_region(handle, [data], offset=16)
            await client("register_system_shared_memory", "r", key, 2 * size + 64)
            given = door.input((2, 4), datatype.name, "r", size, 16)
            wanted = door.output("r", size + 8, size + 48)
            result = await client("infer", f"identity_{datatype.name.lower()}", [given], outputs=[wanted])
            raw = bytes(client_memory.get_contents_as_numpy(handle, np.uint8, [size + 16], size + 48))
        output = result.get_output("y")
        shape = output["shape"] if isinstance(output, dict) else list(output.shape)
        assert shape == [2, 4]
        assert raw[size:] == bytes(16), "more was written than the tensor has"
        if datatype.name == "BYTES":
            assert deserialize_bytes_tensor(raw[:size]).tolist() == elements(datatype).tolist()
        else:
            assert raw[:size] == array.tobytes()


async def test_some_tensors_may_be_sent_and_others_shared(server: ServerProcess, door: Door) -> None:
    added = door.module.InferInput("c", [1], "FP32")
    added.set_data_from_numpy(np.array([100], np.float32))
    async with client_of(door, server) as client:
        with region(64) as (handle, key):
            client_memory.set_shared_memory_region(handle, [X])
            await client("register_system_shared_memory", "r", key, 64)
            shared, wanted = door.input((2, 4), "FP32", "r", 32), door.module.InferRequestedOutput("y")
            # The order of the inputs decides to which of them what is sent belongs.
            for inputs in ([shared, added], [added, shared]):
                result = await client("infer", "sum", inputs, outputs=[wanted])
                assert (result.as_numpy("y") == X + 100).all()
            result = await client("infer", "sum", [shared, added])
            assert (result.as_numpy("y") == X + 100).all()
            sent = door.module.InferInput("x", [2, 4], "FP32")
            sent.set_data_from_numpy(X)
            await client("infer", "sum", [sent, added], outputs=[door.output("r", 32)])
            assert (client_memory.get_contents_as_numpy(handle, np.float32, [2, 4]) == X + 100).all()


async def test_tensors_larger_than_the_largest_request(server: ServerProcess, door: Door) -> None:
    array = np.arange(4_000_000, dtype=np.float32).reshape(4, 1_000_000)
    async with client_of(door, server) as client:
        with region(2 * array.nbytes) as (handle, key):
            client_memory.set_shared_memory_region(handle, [array])
            await client("register_system_shared_memory", "r", key, 2 * array.nbytes)
            given = door.input(array.shape, "FP32", "r", array.nbytes)
            await client("infer", "wide", [given], outputs=[door.output("r", array.nbytes, array.nbytes)])
            found = client_memory.get_contents_as_numpy(handle, np.float32, array.shape, array.nbytes).copy()
        assert (found == array).all()


async def test_regions_are_told_until_they_are_unregistered(server: ServerProcess, door: Door) -> None:
    async with client_of(door, server) as client:
        with region(64) as (_, key):
            assert regions_of(await client("get_system_shared_memory_status")) == {}
            await client("register_system_shared_memory", "a", key, 64)
            await client("register_system_shared_memory", "b c", key, 16, offset=8)
            expected = {"a": (key, 0, 64), "b c": (key, 8, 16)}
            assert regions_of(await client("get_system_shared_memory_status")) == expected
            assert regions_of(await client("get_system_shared_memory_status", "a")) == {"a": (key, 0, 64)}
            assert regions_of(await client("get_cuda_shared_memory_status")) == {}
            await client("unregister_system_shared_memory", "a")
            await client("unregister_system_shared_memory", "a")
            assert await client.refusal(door, "get_system_shared_memory_status", "a") == (
                404,
                "Unable to find system shared memory region: 'a'",
            )
            await client("unregister_system_shared_memory")
            assert regions_of(await client("get_system_shared_memory_status")) == {}


def test_streams_use_shared_memory_too(server: ServerProcess) -> None:
    door = DOORS["grpc"]
    with door.client(server.grpc) as client, region(64) as (handle, key):
        client_memory.set_shared_memory_region(handle, [X])
        client.register_system_shared_memory("streamed", key, 64)
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for name in ("streamed", "unknown"):
            inputs, outputs = [door.input((2, 4), "FP32", name, 32)], [door.output("streamed", 32, 32)]
            client.async_stream_infer("identity_fp32", inputs, outputs=outputs)
        result, error = answers.get(timeout=20)
        assert error is None
        assert result.get_output("y") is not None
        assert (client_memory.get_contents_as_numpy(handle, np.float32, [2, 4], 32) == X).all()
        _, error = answers.get(timeout=20)
        assert "Unable to find shared memory region: 'unknown'" in str(error)
        client.stop_stream()
        client.unregister_system_shared_memory("streamed")


async def test_both_kinds_are_among_the_extensions(server: ServerProcess, door: Door) -> None:
    async with client_of(door, server) as client:
        metadata = await client("get_server_metadata")
        extensions = metadata["extensions"] if isinstance(metadata, dict) else metadata.extensions
        assert {"system_shared_memory", "cuda_shared_memory"} <= set(extensions)
