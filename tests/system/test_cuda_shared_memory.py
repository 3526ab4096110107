"""CUDA shared memory with the client library that Triton's users have, on a real GPU; and without one."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from server_process import ServerProcess, running
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from ortolan.inference.datatypes import BYTES


def why_no_gpu() -> str:
    """Why this process cannot put anything into a GPU's memory; "" when it can."""
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
        status, count = runtime.cudaGetDeviceCount()
    except ImportError:
        return "the package cuda-bindings is not installed"
    # The bindings raise that for a driver that they cannot use.
    except RuntimeError as error:
        return f"CUDA does not start: {error}"
    if int(status):
        return f"CUDA does not start: {status.name}"
    return "" if count else "CUDA finds no GPU"


NO_GPU = why_no_gpu()
needs_gpu = pytest.mark.skipif(bool(NO_GPU), reason=f"CUDA shared memory needs an NVIDIA GPU: {NO_GPU}")
needs_no_gpu = pytest.mark.skipif(not NO_GPU, reason="there is an NVIDIA GPU, and this is about machines without one")

DOORS = {"http": tritonclient.http, "grpc": tritonclient.grpc}
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("cuda_shared_memory")
    onnx_models.save_version(root, "doubler", onnx_models.doubler())
    onnx_models.save_version(root, "words", onnx_models.identity(BYTES.onnx_element_type))
    with running(root, "--allow-client-shm=true") as started:
        yield started


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[tuple[Any, Any]]:
    """The client module and a client, after which no region is registered."""
    module = DOORS[request.param]
    with module.InferenceServerClient(server.http if request.param == "http" else server.grpc) as client:
        yield module, client
        client.unregister_cuda_shared_memory()


@contextmanager
def region(size: int) -> Iterator[Any]:
    """The client library's handle of a new allocation on GPU 0."""
    # Its import fails where there are no bindings.
    memory = importlib.import_module("tritonclient.utils.cuda_shared_memory")
    handle = memory.create_shared_memory_region("region", size, 0)
    try:
        yield handle
    finally:
        memory.destroy_shared_memory_region(handle)


def shared_input(module: Any, shape: tuple[int, ...], datatype: str, size: int, offset: int = 0) -> Any:
    given = module.InferInput("x", list(shape), datatype)
    given.set_shared_memory("r", size, offset)
    return given


def shared_output(module: Any, size: int, offset: int = 0) -> Any:
    wanted = module.InferRequestedOutput("y")
    wanted.set_shared_memory("r", size, offset)
    return wanted


@needs_gpu
def test_numbers_go_through_a_gpus_memory(door: tuple[Any, Any]) -> None:
    module, client = door
    memory = importlib.import_module("tritonclient.utils.cuda_shared_memory")
    with region(64) as handle:
        memory.set_shared_memory_region(handle, [X])
        client.register_cuda_shared_memory("r", memory.get_raw_handle(handle), 0, 64)
        given, wanted = shared_input(module, (2, 4), "FP32", 32), shared_output(module, 32, 32)
        for _ in range(3):
            client.infer("doubler", [given], outputs=[wanted])
        found = memory.get_contents_as_numpy(handle, np.float32, [4, 4])
        client.unregister_cuda_shared_memory("r")
    assert found.tolist() == [*X.tolist(), *(2 * X).tolist()]


@needs_gpu
def test_texts_go_through_a_gpus_memory(door: tuple[Any, Any]) -> None:
    module, client = door
    memory = importlib.import_module("tritonclient.utils.cuda_shared_memory")
    words = np.array([[b"one", b"", b"\xff\x00", b"four"]], np.object_)
    data = serialize_byte_tensor(words)
    size = len(data.item())
    with region(2 * size) as handle, region(size) as result:
        memory.set_shared_memory_region(handle, [data])
        client.register_cuda_shared_memory("r", memory.get_raw_handle(handle), 0, 2 * size)
        client.register_cuda_shared_memory("result", memory.get_raw_handle(result), 0, size)
        wanted = module.InferRequestedOutput("y")
        wanted.set_shared_memory("result", size)
        client.infer("words", [shared_input(module, (1, 4), "BYTES", size)], outputs=[wanted])
        found = memory.get_contents_as_numpy(result, np.object_, [1, 4])
        client.unregister_cuda_shared_memory()
    assert found.tolist() == words.tolist()


@needs_gpu
def test_regions_of_a_gpu_are_told_until_they_are_unregistered(door: tuple[Any, Any]) -> None:
    module, client = door
    memory = importlib.import_module("tritonclient.utils.cuda_shared_memory")
    with region(64) as handle:
        raw = memory.get_raw_handle(handle)
        client.register_cuda_shared_memory("r", raw, 0, 64)
        told = client.get_cuda_shared_memory_status("r")
        if isinstance(told, list):
            assert told == [{"name": "r", "device_id": 0, "byte_size": 64}]
        else:
            assert (told.regions["r"].name, told.regions["r"].device_id, told.regions["r"].byte_size) == ("r", 0, 64)
        with pytest.raises(InferenceServerException, match="shared memory region 'r' already in manager"):
            client.register_cuda_shared_memory("r", raw, 0, 64)
        client.unregister_cuda_shared_memory("r")
        with pytest.raises(InferenceServerException, match="Unable to find cuda shared memory region: 'r'"):
            client.get_cuda_shared_memory_status("r")
        with pytest.raises(InferenceServerException, match="Unable to find shared memory region: 'r'"):
            client.infer("doubler", [shared_input(module, (2, 4), "FP32", 32)])


@needs_gpu
def test_what_a_gpus_memory_does_not_have_is_refused(door: tuple[Any, Any]) -> None:
    module, client = door
    memory = importlib.import_module("tritonclient.utils.cuda_shared_memory")
    with region(64) as handle:
        raw = memory.get_raw_handle(handle)
        for wrong, device, size in ((raw, 99, 64), (raw, 0, 1 << 45), (raw, 0, 0), (raw[:-8], 0, 64)):
            with pytest.raises(InferenceServerException, match="failed to register CUDA shared memory region 'r'"):
                client.register_cuda_shared_memory("r", wrong, device, size)
        client.register_cuda_shared_memory("r", raw, 0, 64)
        for size, offset, said in (
            (32, 64, "Invalid offset for shared memory region: 'r'"),
            (32, 48, "Invalid offset \\+ byte size for shared memory region: 'r'"),
            (16, 0, "input byte size mismatch"),
        ):
            with pytest.raises(InferenceServerException, match=said):
                client.infer("doubler", [shared_input(module, (2, 4), "FP32", size, offset)])
        given, wanted = shared_input(module, (2, 4), "FP32", 32), shared_output(module, 16, 32)
        with pytest.raises(InferenceServerException, match="should be at least 32 bytes to hold the results"):
            client.infer("doubler", [given], outputs=[wanted])
        client.unregister_cuda_shared_memory("r")


@needs_no_gpu
def test_without_a_gpu_no_region_can_be_registered(door: tuple[Any, Any]) -> None:
    _, client = door
    with pytest.raises(InferenceServerException) as raised:
        client.register_cuda_shared_memory("r", b"A" * 88, 0, 64)
    assert raised.value.message() == "failed to register CUDA shared memory region: 'r', GPUs not supported"
    assert raised.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    told = client.get_cuda_shared_memory_status()
    assert not (told if isinstance(told, list) else told.regions)
    client.unregister_cuda_shared_memory("r")
    client.unregister_cuda_shared_memory()
