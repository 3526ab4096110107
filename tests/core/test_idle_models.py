"""Models that nobody asks: when they give memory back, and when they are unloaded. The clock is the test's."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from heavy_models import burst

from ortolan.core.memory_meter import ProcessMemory
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.residency import ResidencyRules
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor

MIB = 1 << 20


@asynccontextmanager
async def manager_of(root: Path, rules: ResidencyRules) -> AsyncIterator[ModelManager]:
    gc.collect()
    options = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
    manager = ModelManager([root], options, QueueLimits(1000), load_threads=2, rules=rules)
    await manager.load_all()
    yield manager
    await manager.stop()


async def ask(manager: ModelManager, rows: int = 1, name: str = "m", value: float = 1) -> None:
    x = np.full((rows, 4), value, np.float32)
    await manager.find(name, "").infer(InferenceRequest(name, inputs=(Tensor("x", FP32, x.shape, x),)))


def states(manager: ModelManager) -> dict[str, str]:
    return {entry.name: entry.state for entry in manager.index()}


async def look_after(manager: ModelManager, seconds: float) -> None:
    """Look at idle models as if so much time had gone by."""
    await manager.residency.idle.look(asyncio.get_running_loop().time() + seconds)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc tells what its heap holds")
async def test_an_idle_model_gives_back_what_a_burst_left_once_for_each_burst(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", burst(), config="max_batch_size: 2048")
    memory = ProcessMemory()

    def held() -> int:
        return memory.held_bytes() or 0

    async with manager_of(tmp_path, ResidencyRules(shrink_idle_s=30)) as manager:
        await look_after(manager, 31)
        before = held()
        for _ in range(2):
            await ask(manager, 1024)
            assert held() - before > 16 * MIB
            await look_after(manager, 29)
            assert held() - before > 16 * MIB, "it is not idle for long enough"
            await look_after(manager, 31)
            assert held() - before < 2 * MIB


async def test_models_are_unloaded_when_nobody_asked_for_as_long_as_is_said(tmp_path: Path) -> None:
    own = 'parameters { key: "idle_unload_secs" value { string_value: "%s" } }'
    for name, seconds in (("m", ""), ("soon", "5"), ("never", "0")):
        onnx_models.save_version(tmp_path, name, onnx_models.adder(1), config=own % seconds if seconds else "")
    async with manager_of(tmp_path, ResidencyRules(on_demand=True, unload_idle_s=60)) as manager:
        await look_after(manager, 4)
        assert set(states(manager).values()) == {"READY"}
        await look_after(manager, 10)
        assert states(manager) == {"m": "READY", "soon": "UNLOADING", "never": "READY"}
        await look_after(manager, 61)
        assert states(manager)["m"] == "UNLOADING"
        await look_after(manager, 1e6)
        assert states(manager)["never"] == "READY"


async def test_a_model_in_use_or_with_open_sequences_is_not_idle(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.slow_as_asked())
    async with manager_of(tmp_path, ResidencyRules(on_demand=True, unload_idle_s=60)) as manager:
        asking = asyncio.create_task(ask(manager, value=2e9))
        await asyncio.sleep(0)
        await look_after(manager, 61)
        assert states(manager) == {"m": "READY"}
        asking.cancel()
        await asyncio.wait([asking])
        while manager.find("m", "").in_flight_requests:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0)
        await look_after(manager, 61)
        assert states(manager) == {"m": "UNLOADING"}


async def test_without_loading_on_demand_nothing_is_unloaded_for_being_idle(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path, ResidencyRules(unload_idle_s=1)) as manager:
        await look_after(manager, 1e6)
        assert states(manager) == {"m": "READY"}
