"""Sequences that are open while their model is replaced end where they began; what begins comes to the new version."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ensembles
import numpy as np
import onnx_models
import onnx_sequences
import pytest
from onnx_sequences import SUM, block

from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.open_sequences import OpenSequences
from ortolan.core.trace import Trace
from ortolan.errors import InvalidArgument, NotFound
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.graph_request import SequenceId
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, InferenceResponse, Tensor

A_WHILE_S = 30.0
AN_HOUR = "max_sequence_idle_microseconds: 3600000000"
BRIEFLY = "max_sequence_idle_microseconds: 50000"
ALL = "version_policy { all { } } "


@asynccontextmanager
async def manager_of(root: Path) -> AsyncIterator[ModelManager]:
    options = LoadingOptions(DeviceInventory(cores=2), DeviceShares(2))
    manager = ModelManager([root], options, QueueLimits(1000), load_threads=2)
    await manager.load_all()
    yield manager
    async with asyncio.timeout(A_WHILE_S):
        await manager.stop()


def put(root: Path, version: int = 1, factor: float = 1, idle: str = AN_HOUR, config: str = "") -> None:
    """A model that adds up ``factor`` times what it gets."""
    proto = onnx_sequences.scaled_accumulator(factor)
    onnx_models.save_version(root, "m", proto, version, config + block(f"{idle} {SUM}"))


async def answer(
    manager: ModelManager, value: float, flags: str = "", sequence_id: SequenceId = 7, model: str = "m", name: str = "x"
) -> tuple[str, float]:
    """The version that answered, and what."""
    array = np.full((1, 1), value, np.float32)
    parameters = {"sequence_id": sequence_id, "sequence_start": "s" in flags, "sequence_end": "e" in flags}
    request = InferenceRequest(model, inputs=(Tensor(name, FP32, (1, 1), array),), parameters=parameters)
    response = await manager.find(model, "").infer(request)
    return response.model_version, float(response.outputs[0].array.item())


async def retired(manager: ModelManager, count: int = 0) -> None:
    """Return once ``count`` versions are still on their way out."""
    async with asyncio.timeout(A_WHILE_S):
        while len(list(manager._retirement)) != count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


async def test_a_sequence_ends_in_the_files_that_it_began_in(tmp_path: Path) -> None:
    put(tmp_path)
    async with manager_of(tmp_path) as manager:
        assert await answer(manager, 1, "s") == ("1", 1)
        put(tmp_path, factor=10)
        await manager.load("m")
        assert await answer(manager, 1, "s", sequence_id="new") == ("1", 10)
        assert await answer(manager, 2) == ("1", 3)
        assert await answer(manager, 2, sequence_id="new") == ("1", 30)
        assert await answer(manager, 3, "e") == ("1", 6)
        await retired(manager)
        with pytest.raises(InvalidArgument, match="must specify the START flag"):
            await answer(manager, 1)


async def test_a_sequence_outlives_several_reloads(tmp_path: Path) -> None:
    put(tmp_path)
    async with manager_of(tmp_path) as manager:
        for factor in (1, 10, 100):
            put(tmp_path, factor=factor)
            await manager.load("m")
            assert await answer(manager, 1, "s", sequence_id=factor) == ("1", factor)
        assert [await answer(manager, 1, "e", sequence_id=factor) for factor in (1, 10, 100)] == [
            ("1", 2),
            ("1", 20),
            ("1", 200),
        ]
        await retired(manager)


@pytest.mark.parametrize("config", ["", ALL])
async def test_a_sequence_ends_in_the_version_that_it_began_in(tmp_path: Path, config: str) -> None:
    put(tmp_path, config=config)
    async with manager_of(tmp_path) as manager:
        assert await answer(manager, 1, "s") == ("1", 1)
        put(tmp_path, version=2, factor=10, config=config)
        await manager.load("m")
        assert await answer(manager, 1, "s", sequence_id="new") == ("2", 10)
        assert await answer(manager, 2) == ("1", 3)
        assert await answer(manager, 3, "e") == ("1", 6)
        await retired(manager)


async def test_a_start_comes_to_the_new_version_and_what_follows_it_too(tmp_path: Path) -> None:
    put(tmp_path)
    async with manager_of(tmp_path) as manager:
        await answer(manager, 1, "s")
        put(tmp_path, factor=10)
        await manager.load("m")
        assert await answer(manager, 1, "s") == ("1", 10)
        assert await answer(manager, 1) == ("1", 20)


async def test_an_idle_sequence_holds_no_version(tmp_path: Path) -> None:
    put(tmp_path, idle=BRIEFLY)
    async with manager_of(tmp_path) as manager:
        await answer(manager, 1, "s")
        put(tmp_path, factor=10, idle=BRIEFLY)
        await manager.load("m")
        await retired(manager)


async def test_an_open_sequence_holds_no_model_that_is_unloaded(tmp_path: Path) -> None:
    put(tmp_path)
    async with manager_of(tmp_path) as manager:
        await answer(manager, 1, "s")
        put(tmp_path, factor=10)
        await manager.load("m")
        await answer(manager, 1, "s", sequence_id="new")
        await retired(manager, 1)
        await manager.unload("m")
        await retired(manager)
        with pytest.raises(NotFound):
            await answer(manager, 1)


async def test_a_sequence_of_an_ensemble_ends_in_the_version_that_it_began_in(tmp_path: Path) -> None:
    put(tmp_path)
    text = ensembles.config(ensembles.step("m", [("x", "in")], [("y", "out")]), max_batch_size=1)
    ensembles.save(tmp_path, "whole", text.replace("dims: 4", "dims: 1"))
    async with manager_of(tmp_path) as manager:

        async def total(value: float, flags: str = "", sequence_id: SequenceId = 7) -> float:
            return (await answer(manager, value, flags, sequence_id, "whole", "in"))[1]

        assert await total(1, "s") == 1
        put(tmp_path, factor=10)
        await manager.load("m")
        assert await total(1, "s", sequence_id="new") == 10
        assert await total(2) == 3
        assert await total(2, "e", sequence_id="new") == 30
        assert await total(3, "e") == 6
        await retired(manager)


class Endless:
    """A version whose sequence never ends."""

    name, number_text = "m", "1"

    def has_open_sequence(self, sequence_id: SequenceId) -> bool:
        return sequence_id == 7

    async def sequences_ended(self) -> None:
        await asyncio.Event().wait()

    async def infer(self, request: InferenceRequest, trace: Trace | None = None) -> InferenceResponse:  # noqa: ARG002
        return InferenceResponse(request.model_name, self.number_text, request.id, ())


class New(Endless):
    """The version after it."""

    def has_open_sequence(self, sequence_id: SequenceId) -> bool:  # noqa: ARG002
        return False


async def test_a_sequence_that_never_ends_holds_its_version_only_so_long() -> None:
    open_sequences, version = OpenSequences(longest_s=0.01), Endless()
    request = InferenceRequest("m", parameters={"sequence_id": 7})

    open_sequences.keep(version)
    assert open_sequences.holder_of(request, New()) is version
    async with asyncio.timeout(A_WHILE_S):
        await open_sequences.ended(version)
    assert open_sequences.holder_of(request, New()) is None


@pytest.mark.parametrize(
    ("asked", "parameters", "found"),
    [
        ("", {"sequence_id": 7}, True),
        ("1", {"sequence_id": 7}, True),
        ("2", {"sequence_id": 7}, False),  # who names a version gets an answer of that or none
        ("", {"sequence_id": 7, "sequence_start": True}, False),
        ("", {"sequence_id": 8}, False),
        ("", {"sequence_id": "7"}, False),
        ("", {}, False),
    ],
)
async def test_what_belongs_to_a_version_that_was_replaced(
    asked: str, parameters: dict[str, bool | int | float | str], found: bool
) -> None:
    open_sequences, version = OpenSequences(), Endless()
    open_sequences.keep(version)

    request = InferenceRequest("m", model_version=asked, parameters=parameters)
    assert (open_sequences.holder_of(request, New()) is version) is found
    open_sequences.let_all_go()
