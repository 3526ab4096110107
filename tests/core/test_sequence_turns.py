"""A sequence's requests that came in their order are answered in it, whatever each of them meets on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ensembles
import numpy as np
import onnx_models
import onnx_sequences
from onnx_sequences import block
from shared_objects import needs_linux, shared_object

from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.sequence_turns import SequenceTurns
from ortolan.core.shared_memory import SharedMemoryRegions
from ortolan.core.shared_tensors import SharedTensors
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import UNREAD, InferenceRequest, Tensor
from ortolan.inference.shared_memory import SharedMemorySlice

A_WHILE_S = 30.0
ALL = 'state [ { input_name: "all_in" output_name: "all_out" data_type: TYPE_FP32 dims: [ -1 ] } ]'
REMEMBERS = block(f"max_sequence_idle_microseconds: 60000000 {ALL}")
# So many steps take the first step's model much longer than a hop from one model to the next.
SLOW = 200_000


@asynccontextmanager
async def core_of(root: Path, regions: SharedMemoryRegions | None = None) -> AsyncIterator[InferenceCore]:
    onnx_models.save_version(root, "memory", onnx_sequences.memory(), config=REMEMBERS)
    manager = ModelManager(
        [root], LoadingOptions(DeviceInventory(cores=2), DeviceShares(2)), QueueLimits(1000), load_threads=2
    )
    await manager.load_all()
    assert manager.failures() == {}
    yield InferenceCore(
        manager, "ortolan", "explicit", True, shared_tensors=SharedTensors(regions) if regions else None
    )
    await manager.stop()


def request(model: str, tensor: Tensor, flags: str = "") -> InferenceRequest:
    parameters = {"sequence_id": 7, "sequence_start": "s" in flags, "sequence_end": "e" in flags}
    return InferenceRequest(model, inputs=(tensor,), parameters=parameters)


def full(name: str, value: float, columns: int = 4) -> Tensor:
    return Tensor(name, FP32, (1, columns), np.full((1, columns), value, np.float32))


async def answers(core: InferenceCore, *requests: InferenceRequest) -> list[np.ndarray]:
    """The first output of each; they are sent without waiting for an answer."""
    tasks = [asyncio.create_task(core.infer(each)) for each in requests]
    responses = await asyncio.wait_for(asyncio.gather(*tasks), A_WHILE_S)
    return [response.outputs[0].array for response in responses]


async def test_a_slow_first_step_of_an_ensemble_changes_no_order(tmp_path: Path) -> None:
    two = "instance_group [ { count: 2 kind: KIND_CPU } ] max_batch_size: 1"
    onnx_models.save_version(tmp_path, "slow", onnx_models.slow_as_asked(), config=two)
    steps = ensembles.step("slow", [("x", "in")], [("y", "t")]) + ensembles.step("memory", [("x", "t")], [("y", "out")])
    text = ensembles.config(steps, max_batch_size=1)
    ensembles.save(tmp_path, "both", text.replace('output { name: "out" data_type: TYPE_FP32 dims: 4 }', OUT))
    async with core_of(tmp_path) as core:
        first = request("both", full("in", SLOW), "s")
        found = await answers(core, first, request("both", full("in", 2)), request("both", full("in", 3), "e"))
        assert [array[0, ::4].tolist() for array in found] == [[0, SLOW], [0, SLOW, 2], [0, SLOW, 2, 3]]


OUT = 'output { name: "out" data_type: TYPE_FP32 dims: -1 }'


@needs_linux
async def test_a_large_tensor_in_shared_memory_changes_no_order(tmp_path: Path) -> None:
    columns = 1 << 20
    content = np.ones(columns, np.float32).tobytes()
    regions = SharedMemoryRegions(allowed=True)
    with shared_object(len(content), content) as shared:
        regions.register_system("r", shared.key, 0, len(content))
        async with core_of(tmp_path, regions) as core:
            large = Tensor("x", FP32, (1, columns), UNREAD, SharedMemorySlice("r", 0, len(content)))
            small = [request("memory", full("x", value, 1), flags) for value, flags in ((2, ""), (3, "e"))]
            found = await answers(core, request("memory", large, "s"), *small)
            assert [array.shape[1] for array in found] == [columns + 1, columns + 2, columns + 3]


async def test_turns_come_in_the_order_of_arrival_and_leave_nothing_behind() -> None:
    turns = SequenceTurns()
    order: list[int] = []

    async def take(number: int) -> None:
        async with turns.of("m"):
            await asyncio.sleep(0)
            order.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert turns.are_taken("m")
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 2, 3]
    assert not turns.are_taken("m")
