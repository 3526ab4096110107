"""Who is unloaded for others, and who is not, with real models and a real budget."""

import asyncio
import gc
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ensembles
import numpy as np
import onnx_models
import pytest
from heavy_models import heavy

from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.residency import ResidencyRules
from ortolan.errors import OutOfMemory, Unavailable
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc tells what its heap holds")

MIB = 1 << 20
PIN = 'max_batch_size: 8 parameters { key: "pin" value { string_value: "1" } }'


@asynccontextmanager
async def manager_of(root: Path, budget_mib: float, on_demand: bool = False) -> AsyncIterator[ModelManager]:
    """Nothing is loaded yet, and what other tests left is gone: it would be taken off what is measured."""
    gc.collect()
    options = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
    rules = ResidencyRules(int(budget_mib * MIB), on_demand=on_demand)
    manager = ModelManager([root], options, QueueLimits(1000), load_threads=2, rules=rules)
    await manager.load_all([])
    try:
        yield manager
    finally:
        async with asyncio.timeout(30):
            await manager.stop()
        gc.collect()


async def ask(manager: ModelManager, name: str, value: float = 0, tensor: str = "x") -> float:
    x = np.full((1, 4), value, np.float32)
    version = await manager.residency.bring(name, "")
    response = await version.infer(InferenceRequest(name, inputs=(Tensor(tensor, FP32, x.shape, x),)))
    return float(response.outputs[0].array.flat[0])


def reasons(manager: ModelManager) -> dict[str, str]:
    return {entry.name: entry.reason for entry in manager.index()}


def ready(manager: ModelManager) -> set[str]:
    return {entry.name for entry in manager.index() if entry.state == "READY"}


def put(root: Path, *names: str, config: str = "") -> None:
    for value, name in enumerate(names):
        onnx_models.save_version(root, name, heavy(value, 4), config=config)


async def test_a_pinned_model_stays_and_the_next_oldest_goes(tmp_path: Path) -> None:
    put(tmp_path, "a", config=PIN)
    put(tmp_path, "b", "c")
    async with manager_of(tmp_path, 12.5) as manager:
        await manager.load("a")
        await manager.load("b")
        await manager.load("c")
        assert ready(manager) == {"a", "c"}
        assert manager.residency.evictions.counts == {"budget": 1}


async def test_a_model_in_use_stays_where_nothing_would_bring_it_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    onnx_models.save_version(tmp_path, "slow", onnx_models.slow_as_asked())
    put(tmp_path, "b")
    async with manager_of(tmp_path, 5.6) as manager:
        await manager.load("slow")
        asking = asyncio.create_task(ask(manager, "slow", 300_000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert manager.find("slow", "").in_flight_requests == 1
        with pytest.raises(OutOfMemory, match="of which others hold the rest"):
            await manager.load("b")
        assert re.search(r"'slow' .* MiB \(in use\)", caplog.text)
        await asking
        await manager.load("b")
        assert ready(manager) == {"b"}


async def test_requests_inside_are_answered_by_a_model_that_goes(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "slow", onnx_models.slow_as_asked())
    put(tmp_path, "b")
    async with manager_of(tmp_path, 5.6, on_demand=True) as manager:
        await manager.load("slow")
        asking = [asyncio.create_task(ask(manager, "slow", 300_000)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert manager.find("slow", "").in_flight_requests == 3
        assert await ask(manager, "b", 5) == 5
        assert len(await asyncio.gather(*asking)) == 3
        assert ready(manager) == {"b"}


async def test_an_ensemble_that_does_not_fit_is_refused_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "one", "two", config="max_batch_size: 8\n")
    ensembles.save(tmp_path, "sum", ensembles.config(ensembles.chain("one", "two")))
    async with manager_of(tmp_path, 7, on_demand=True) as manager, asyncio.timeout(20):
        with pytest.raises(Unavailable, match=r"depends on 'two' which has no loaded version|depends on 'one'"):
            await ask(manager, "sum", tensor="in")
        assert "needed beside it" in caplog.text
