"""Requests whose tensors are in clients' memory: what the model sees of them, and what clients find there after it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from shared_objects import SharedObject, needs_linux, shared_object, times_open

from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.shared_memory import SharedMemoryRegions
from ortolan.core.shared_tensors import SharedTensors
from ortolan.core.system_region import SystemRegion
from ortolan.errors import InvalidArgument, NotFound, OrtolanError, QueueFull, Unsupported
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import BOOL, BYTES, DATATYPES, FP32, Datatype
from ortolan.inference.request import UNREAD, InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from ortolan.inference.shared_memory import SharedMemorySlice
from ortolan.inference.tensor_bytes import element_bytes

pytestmark = needs_linux

SIZE = 256
X = np.array([1, 2, 3, 4], np.float32)


@pytest.fixture
def shared() -> Iterator[SharedObject]:
    with shared_object(SIZE, X.tobytes()) as found:
        yield found


@pytest.fixture
def regions(shared: SharedObject) -> SharedMemoryRegions:
    found = SharedMemoryRegions(allowed=True)
    found.register_system("r", shared.key, 0, SIZE)
    return found


async def echo(request: InferenceRequest) -> InferenceResponse:
    """Each output is the input in its place."""
    assert not request.uses_shared_memory
    outputs = tuple(replace(tensor, name=f"y{index}") for index, tensor in enumerate(request.inputs))
    return InferenceResponse("m", "1", request.id, outputs)


def given(size: int, datatype: Datatype = FP32, shape: tuple[int, ...] = (4,), offset: int = 0) -> Tensor:
    return Tensor("x", datatype, shape, UNREAD, SharedMemorySlice("r", offset, size))


def wanted(name: str, offset: int, size: int, region: str = "r") -> RequestedOutput:
    return RequestedOutput(name, shared_memory=SharedMemorySlice(region, offset, size))


def elements(datatype: Datatype) -> np.ndarray:
    if datatype is BYTES:
        return np.array([b"", b"ab\xff\0", b"word", b"\x80"], np.object_)
    bits = np.arange(1, 1 + 4 * datatype.size_bytes, dtype=np.uint8)
    return bits[:4] % 2 == 1 if datatype is BOOL else bits.view(datatype.numpy)


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
async def test_tensors_of_every_datatype_go_through_shared_memory(
    datatype: Datatype, shared: SharedObject, regions: SharedMemoryRegions
) -> None:
    data = bytes(element_bytes(Tensor("x", datatype, (4,), elements(datatype))))
    shared.write(data, 3)  # Not aligned to any element.
    request = InferenceRequest(
        "m", inputs=(given(len(data), datatype, (2, 2), 3),), outputs=(wanted("y0", 101, len(data)),)
    )
    response = await SharedTensors(regions).infer(request, echo)
    assert shared.read(len(data) + 2, 100) == b"\0" + data + b"\0"
    (output,) = response.outputs
    assert (output.name, output.datatype, output.shape) == ("y0", datatype, (2, 2))
    assert output.shared_memory == SharedMemorySlice("r", 101, len(data))


async def test_some_tensors_may_be_sent_and_others_shared(shared: SharedObject, regions: SharedMemoryRegions) -> None:
    sent = Tensor("z", FP32, (1,), np.array([9], np.float32))
    request = InferenceRequest(
        "m", id="7", inputs=(sent, given(16)), outputs=(RequestedOutput("y0", binary=True), wanted("y1", 64, 99))
    )
    response = await SharedTensors(regions).infer(request, echo)
    assert response.id == "7"
    assert [tensor.shared_memory is None for tensor in response.outputs] == [True, False]
    assert response.outputs[0].array.tolist() == [9]
    assert shared.read(16, 64) == X.tobytes()


async def test_all_outputs_are_sent_when_none_is_named(regions: SharedMemoryRegions) -> None:
    response = await SharedTensors(regions).infer(InferenceRequest("m", inputs=(given(16),)), echo)
    assert [tensor.array.tolist() for tensor in response.outputs] == [X.tolist()]
    assert response.outputs[0].shared_memory is None


async def test_an_empty_tensor_needs_no_bytes(regions: SharedMemoryRegions) -> None:
    request = InferenceRequest("m", inputs=(given(0, shape=(0, 4)),), outputs=(wanted("y0", 255, 0),))
    assert (await SharedTensors(regions).infer(request, echo)).outputs[0].shape == (0, 4)


async def test_large_texts_go_through_shared_memory() -> None:
    words = np.array([b"word" * 50_000] * 8, np.object_)
    data = bytes(element_bytes(Tensor("x", BYTES, (8,), words)))
    with shared_object(len(data), data) as shared:
        regions = SharedMemoryRegions(allowed=True)
        regions.register_system("r", shared.key, 0, len(data))
        request = InferenceRequest("m", inputs=(given(len(data), BYTES, (8,)),), outputs=(wanted("y0", 0, len(data)),))
        response = await SharedTensors(regions).infer(request, echo)
        assert response.outputs[0].array.tolist() == words.tolist()
        assert shared.read() == data
        await regions.unregister(SystemRegion, "")


async def test_any_byte_that_is_not_0_is_true(shared: SharedObject, regions: SharedMemoryRegions) -> None:
    shared.write(b"\0\1\2\xff")
    response = await SharedTensors(regions).infer(InferenceRequest("m", inputs=(given(4, BOOL),)), echo)
    assert response.outputs[0].array.tobytes() == b"\0\1\1\1"


REFUSED = [
    (given(12), (), InvalidArgument, "input byte size mismatch for input 'x' for model 'm'. Expected 16, got 12"),
    (given(17), (), InvalidArgument, "Expected 16, got 17"),
    (given(16, offset=250), (), InvalidArgument, "Invalid offset + byte size for shared memory region: 'r'"),
    (given(16, offset=2**64 - 8), (), InvalidArgument, "Invalid offset for shared memory region: 'r'"),
    (given(2**64 - 32, offset=32), (), InvalidArgument, "Invalid offset + byte size for shared memory region: 'r'"),
    # The four bytes of 1.0 are a length that no region has.
    (given(16, BYTES), (), InvalidArgument, "incomplete string data for input 'x'"),
    (given(16, BYTES, (5,)), (), InvalidArgument, "input 'x' expects 5 string elements, but its 16 bytes hold at most"),
    (given(8, BYTES, (1,), 100), (), InvalidArgument, "unexpected number of string elements for input 'x'"),
    (given(16), (wanted("y0", 0, 16, "q"),), NotFound, "Unable to find shared memory region: 'q'"),
    (given(16), (wanted("y0", 256, 1),), InvalidArgument, "Invalid offset for shared memory region: 'r'"),
    (given(16), (wanted("y0", 241, 16),), InvalidArgument, "Invalid offset + byte size for shared memory region: 'r'"),
    (
        given(16),
        (wanted("y0", 64, 15),),
        InvalidArgument,
        "shared memory size specified with the request for output 'y0' (15 bytes) should be at least 16 bytes to hold "
        "the results",
    ),
]


@pytest.mark.parametrize(("tensor", "outputs", "error", "message"), REFUSED)
async def test_what_does_not_fit_is_refused_and_nothing_is_written(
    shared: SharedObject,
    regions: SharedMemoryRegions,
    tensor: Tensor,
    outputs: tuple[RequestedOutput, ...],
    error: type[OrtolanError],
    message: str,
) -> None:
    before = shared.read()
    with pytest.raises(error) as raised:
        await SharedTensors(regions).infer(InferenceRequest("m", inputs=(tensor,), outputs=outputs), echo)
    assert raised.value.message.startswith(message) or message in raised.value.message
    assert shared.path.name not in raised.value.message
    assert shared.read() == before
    await regions.unregister(SystemRegion, "")
    assert times_open(shared) == 0


async def test_no_output_is_written_when_another_does_not_fit(
    shared: SharedObject, regions: SharedMemoryRegions
) -> None:
    before = shared.read()
    request = InferenceRequest(
        "m", inputs=(given(16), given(16)), outputs=(wanted("y0", 64, 16), wanted("y1", 128, 15))
    )
    with pytest.raises(InvalidArgument, match="for output 'y1'"):
        await SharedTensors(regions).infer(request, echo)
    assert shared.read() == before


async def test_a_region_may_be_unregistered_while_a_request_runs(
    shared: SharedObject, regions: SharedMemoryRegions
) -> None:
    async def unregistered_meanwhile(request: InferenceRequest) -> InferenceResponse:
        await regions.unregister(SystemRegion, "r")
        assert regions.status(SystemRegion, "") == []
        return await echo(request)

    request = InferenceRequest("m", inputs=(given(16),), outputs=(wanted("y0", 64, 16),))
    await SharedTensors(regions).infer(request, unregistered_meanwhile)
    assert shared.read(16, 64) == X.tobytes()
    assert times_open(shared) == 0


async def test_an_object_that_shrinks_while_a_request_runs_costs_only_that_request(
    shared: SharedObject, regions: SharedMemoryRegions
) -> None:
    async def shrunk_meanwhile(request: InferenceRequest) -> InferenceResponse:
        shared.resize(70)
        return await echo(request)

    request = InferenceRequest("m", inputs=(given(16),), outputs=(wanted("y0", 64, 16),))
    with pytest.raises(InvalidArgument, match="has become smaller"):
        await SharedTensors(regions).infer(request, shrunk_meanwhile)
    assert shared.size == 70


async def test_copies_hold_no_more_memory_than_they_may(regions: SharedMemoryRegions) -> None:
    tensors = SharedTensors(regions, max_bytes=40)
    with pytest.raises(InvalidArgument, match="have 48 bytes, more than the 40 that may be copied at once"):
        await tensors.infer(InferenceRequest("m", inputs=(given(16), given(16), given(16))), echo)
    release = asyncio.Event()

    async def waiting(request: InferenceRequest) -> InferenceResponse:
        await release.wait()
        return await echo(request)

    running = [asyncio.create_task(tensors.infer(InferenceRequest("m", inputs=(given(16),)), waiting)) for _ in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match="hold 32 bytes of copies already and may hold 40"):
        await tensors.infer(InferenceRequest("m", inputs=(given(16),)), echo)
    running[0].cancel()
    release.set()
    await asyncio.gather(*running, return_exceptions=True)
    await tensors.infer(InferenceRequest("m", inputs=(given(16), given(16))), echo)


async def test_a_request_that_is_given_up_keeps_its_memory_until_its_copy_is_gone() -> None:
    size = 2 << 20
    with ThreadPoolExecutor(1) as threads, shared_object(size) as shared:
        asyncio.get_running_loop().set_default_executor(threads)
        busy = threading.Event()
        threads.submit(busy.wait)
        regions = SharedMemoryRegions(allowed=True)
        regions.register_system("r", shared.key, 0, size)
        tensors = SharedTensors(regions, max_bytes=size)
        asked = InferenceRequest("m", inputs=(given(size, shape=(size // 4,)),))
        running = asyncio.create_task(tensors.infer(asked, echo))
        await asyncio.sleep(0)
        try:
            for _ in range(2):
                running.cancel()
                await asyncio.sleep(0)
                with pytest.raises(QueueFull):
                    await asyncio.wait_for(tensors.infer(asked, echo), 5)
        finally:
            busy.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        await tensors.infer(asked, echo)
        await regions.unregister(SystemRegion, "")
        assert times_open(shared) == 0


async def test_without_the_operators_leave_a_request_is_refused() -> None:
    with pytest.raises(Unsupported, match="Client shared memory is disabled"):
        await SharedTensors(SharedMemoryRegions(allowed=False)).infer(InferenceRequest("m", inputs=(given(16),)), echo)


async def test_what_the_model_cannot_take_is_refused_before_anything_is_read(
    tmp_path: Path, shared: SharedObject, regions: SharedMemoryRegions
) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.doubler())
    manager = ModelManager([tmp_path], LoadingOptions(DeviceInventory(cores=1), DeviceShares(1)), QueueLimits(100))
    await manager.load_all()
    core = InferenceCore(manager, "ortolan", "none", True, shared_tensors=SharedTensors(regions))
    good = InferenceRequest("m", inputs=(given(16, shape=(1, 4)),), outputs=(wanted("y", 64, 16),))
    assert (await core.infer(good)).outputs[0].shape == (1, 4)
    assert shared.read(16, 64) == (2 * X).tobytes()
    shared.resize(0)
    with pytest.raises(InvalidArgument, match="has become smaller"):
        await core.infer(good)
    with pytest.raises(NotFound, match="unknown model"):
        await core.infer(replace(good, model_name="other"))
    with pytest.raises(InvalidArgument, match=r"^\[request id: 7\] unexpected shape for input 'x'"):
        await core.infer(replace(good, id="7", inputs=(given(20, shape=(1, 5)),)))
    with pytest.raises(InvalidArgument, match="unexpected inference input 'z'"):
        await core.infer(replace(good, inputs=(replace(good.inputs[0], name="z"),)))
    await manager.stop()
