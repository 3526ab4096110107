"""Ensembles of real models: how they answer, and how they follow the models that they are made of."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import ensembles
import numpy as np
import onnx_models
import onnx_sequences
import pytest
from onnx import TensorProto, numpy_helper

from ortolan.core.load_override import LoadOverride
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.response_cache import ResponseCache
from ortolan.errors import DeadlineExceeded, InvalidArgument, NotFound, QueueFull
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32, INT64
from ortolan.inference.request import InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from ortolan.repository.golden_files import GoldenRule

EIGHT = "max_batch_size: 8\n"


@asynccontextmanager
async def manager_of(
    *roots: Path, cache: ResponseCache | None = None, golden: GoldenRule = "check"
) -> AsyncIterator[ModelManager]:
    options = LoadingOptions(DeviceInventory(cores=2), DeviceShares(2), golden=golden)
    manager = ModelManager(roots, options, QueueLimits(1000), load_threads=2, cache=cache)
    yield manager
    await manager.stop()


def put(root: Path, name: str, constant: float, version: int = 1, config: str = EIGHT) -> None:
    """A model that adds ``constant``."""
    onnx_models.save_version(root, name, onnx_models.adder(constant), version, config)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``sum`` adds 1 and then 10."""
    put(tmp_path, "one", 1)
    put(tmp_path, "ten", 10)
    ensembles.save(tmp_path, "sum", ensembles.config(ensembles.chain("one", "ten")))
    return tmp_path


def request(model: str, value: float = 0, rows: int = 1, **others: object) -> InferenceRequest:
    array = np.full((rows, 4), value, np.float32)
    return InferenceRequest(model, inputs=(Tensor("in", FP32, array.shape, array),), **others)  # type: ignore[arg-type]


def index(value: int, name: str = "x") -> InferenceRequest:
    array = np.full((1, 1), value, np.int64)
    return InferenceRequest("gather", inputs=(Tensor(name, INT64, array.shape, array),))


async def asked(manager: ModelManager, model: str, value: float = 0, **others: object) -> InferenceResponse:
    return await manager.find(model, "").infer(request(model, value, **others))


async def answer(manager: ModelManager, model: str, value: float = 0, **others: object) -> float:
    return float((await asked(manager, model, value, **others)).outputs[0].array[0, 0])


def states(manager: ModelManager) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.state, entry.reason) for entry in manager.index()}


# -- golden requests ---------------------------------------------------------------------------------------------------


def golden(root: Path, name: str, given: float, expected: float, rows: int = 2) -> None:
    directory = root / name / "test_data_set_0"
    directory.mkdir(exist_ok=True)
    for file, value in (("input_0.pb", given), ("output_0.pb", expected)):
        tensor = numpy_helper.from_array(np.full((rows, 4), value, np.float32))
        (directory / file).write_bytes(tensor.SerializeToString())


async def test_golden_requests_of_an_ensemble_are_run_through_its_steps(root: Path) -> None:
    golden(root, "sum", 5, 16)
    async with manager_of(root, cache=ResponseCache(1 << 20)) as manager:
        await manager.load_all()
        assert await answer(manager, "sum", 5) == 16
        # What is tried out is no request of anybody's.
        assert manager.find("sum", "").statistics.success.count == 1
        golden(root, "sum", 5, 17)
        put(root, "extra", 1)
        await load_failing(manager, "sum", r"golden requests of model 'sum' refuse it: test_data_set_0: output 'out'")
        assert await answer(manager, "sum", 5) == 16


async def test_a_model_with_which_the_ensembles_answers_are_wrong_is_not_bound(root: Path) -> None:
    golden(root, "sum", 5, 16)
    async with manager_of(root) as manager:
        await manager.load_all()
        put(root, "ten", 20)
        await manager.load("ten")
        assert "expected 16.0, got 26.0" in states(manager)["sum"][1]
        assert await answer(manager, "sum", 5) == 16
        put(root, "ten", 10.001)
        await manager.load("ten")
        assert states(manager)["sum"] == ("READY", "")
        assert await answer(manager, "sum", 5) == pytest.approx(16.001)
        await manager.unload("sum")
        await manager.unload("ten")
        assert not manager.find("one", "").in_flight_requests


async def trial_of(root: Path, manager: ModelManager) -> "asyncio.Task[object]":
    """A load of ``late`` (adds 1, and takes a while) whose golden request is under way."""
    onnx_models.save_version(root, "slow", onnx_models.slow(200_000), config=EIGHT)
    ensembles.save(root, "late", ensembles.config(ensembles.chain("one", "slow")))
    golden(root, "late", 0, 1)
    await manager.load("one")
    await manager.load("slow")
    loading: asyncio.Task[object] = asyncio.create_task(manager.load("late"))
    slow = manager.find("slow", "")
    async with asyncio.timeout(30):
        while not slow.in_flight_requests:  # noqa: ASYNC110 - it is the manager that sends it, without telling
            await asyncio.sleep(0)
    return loading


async def test_a_model_that_is_replaced_while_its_ensemble_is_tried_out_is_bound_in_the_end(root: Path) -> None:
    async with manager_of(root) as manager:
        loading = await trial_of(root, manager)
        first = manager.find("one", "")
        put(root, "one", 1.0001)
        async with asyncio.timeout(60):
            await manager.load("one")
            await loading
            assert await answer(manager, "late", 0) == pytest.approx(1.0001)
            # Nobody holds the one that was replaced any more.
            await first.drained()


async def test_a_model_that_is_unloaded_while_its_ensemble_is_tried_out_takes_it_along(root: Path) -> None:
    async with manager_of(root) as manager:
        loading = await trial_of(root, manager)
        first = manager.find("one", "")
        async with asyncio.timeout(60):
            await manager.unload("one")
            await asyncio.gather(loading, return_exceptions=True)
            assert states(manager)["late"][0] == "UNAVAILABLE"
            await first.drained()


async def test_a_queue_that_is_full_is_no_wrong_answer(root: Path) -> None:
    limited = "dynamic_batching { default_queue_policy { max_queue_size: 1 } }"
    config = f"max_batch_size: 1 instance_group {{ count: 1 kind: KIND_CPU }} {limited}"
    onnx_models.save_version(root, "slow", onnx_models.slow(300_000), config=config)
    ensembles.save(root, "late", ensembles.config(ensembles.chain("slow"), max_batch_size=1))
    golden(root, "late", 3, 3, rows=1)
    x = Tensor("x", FP32, (1, 4), np.zeros((1, 4), np.float32))
    async with manager_of(root) as manager, asyncio.timeout(60):
        await manager.load("slow")
        slow = manager.find("slow", "")
        busy = [asyncio.create_task(slow.infer(InferenceRequest("slow", inputs=(x,)))) for _ in range(6)]
        await manager.load("late")
        assert any(isinstance(each, QueueFull) for each in await asyncio.gather(*busy, return_exceptions=True))
        assert states(manager)["late"] == ("READY", "")


@pytest.mark.parametrize(("rule", "state"), [("require", "UNAVAILABLE"), ("check", "READY")])
async def test_golden_requests_cannot_be_run_through_sequences(
    tmp_path: Path, rule: GoldenRule, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = onnx_sequences.block(onnx_sequences.SUM)
    onnx_models.save_version(tmp_path, "total", onnx_sequences.accumulator(), config=config)
    text = ensembles.config(ensembles.step("total", [("x", "in")], [("y", "out")]), max_batch_size=4)
    ensembles.save(tmp_path, "sum", text.replace("dims: 4", "dims: 1"))
    golden(tmp_path, "sum", 1, 99)
    (tmp_path / "total" / "test_data_set_0").mkdir()
    for file, value, name in (("input_0", 1, "x"), ("input_1", 2, "sum_in"), ("output_0", 3, "y")):
        tensor = numpy_helper.from_array(np.full((1, 1), value, np.float32), name)
        (tmp_path / "total" / "test_data_set_0" / f"{file}.pb").write_bytes(tensor.SerializeToString())
    async with manager_of(tmp_path, golden=rule) as manager:
        await manager.load_all()
        assert (states(manager)["total"][0], states(manager)["sum"][0]) == ("READY", state)
    told = caplog.text if rule == "check" else states(manager)["sum"][1]
    assert "a step's model is served in sequences" in told


async def test_the_tolerance_is_the_ensembles_own(root: Path) -> None:
    golden(root, "sum", 5, 17)
    text = 'parameters { key: "golden_atol" value { string_value: "%s" } }'
    ensembles.save(root, "sum", ensembles.config(ensembles.chain("one", "ten"), extra=text % "2"))
    async with manager_of(root) as manager:
        await manager.load_all()
        assert states(manager)["sum"] == ("READY", "")
        ensembles.save(root, "sum", ensembles.config(ensembles.chain("one", "ten"), extra=text % "much"))
        await load_failing(manager, "sum", "golden_atol")


@pytest.mark.parametrize(("rule", "state"), [("require", "UNAVAILABLE"), ("check", "READY"), ("off", "READY")])
async def test_golden_requests_can_be_required_of_ensembles_too(root: Path, rule: GoldenRule, state: str) -> None:
    for name, given, expected in (("one", 1, 2), ("ten", 1, 11)):
        golden(root, name, given, expected)
    async with manager_of(root, golden=rule) as manager:
        await manager.load_all()
        assert states(manager)["one"][0] == "READY"
        assert states(manager)["sum"][0] == state


async def load_failing(manager: ModelManager, name: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        await manager.load(name)


# -- answering --------------------------------------------------------------------------------------------------------


async def test_an_ensemble_answers_with_what_its_steps_give_one_after_another(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        response = await asked(manager, "sum", 5, rows=3, id="7")
    assert (response.model_name, response.model_version, response.id) == ("sum", "1", "7")
    (output,) = response.outputs
    assert (output.name, output.shape) == ("out", (3, 4))
    assert np.all(output.array == 16)


async def test_an_ensemble_is_loaded_without_a_version_directory(root: Path) -> None:
    (root / "sum" / "1").rmdir()
    async with manager_of(root) as manager:
        await manager.load_all()
        assert await answer(manager, "sum", 5) == 16
        (root / "sum" / "config.pbtxt").write_text(ensembles.config(ensembles.chain("ten", "ten")))
        await manager.load("sum")
        assert await answer(manager, "sum", 5) == 25


async def test_each_request_counts_once_in_the_ensemble_and_once_in_each_model(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        await asked(manager, "sum", rows=3)
        whole, one, ten = (manager.find(name, "").statistics for name in ("sum", "one", "ten"))
    for each in (whole, one, ten):
        assert (each.success.count, each.inference_count, each.execution_count) == (1, 3, 1)
        assert (each.queue.count, each.compute_infer.count, [*each.batches]) == (1, 1, [3])
    assert whole.compute_infer.ns == one.compute_infer.ns + ten.compute_infer.ns
    assert whole.success.ns >= whole.compute_infer.ns


def two_sides(root: Path, left: str = "one", right: str = "ten") -> None:
    steps = ensembles.step(left, [("x", "in")], [("y", "left")]) + ensembles.step(
        right, [("x", "in")], [("y", "right")]
    )
    ensembles.save(root, "sides", ensembles.config(steps, outputs=["left", "right"]))


async def test_steps_that_no_wanted_output_needs_do_not_run(root: Path) -> None:
    two_sides(root)
    async with manager_of(root) as manager:
        await manager.load_all()
        response = await asked(manager, "sides", outputs=(RequestedOutput("right"),))
        assert [output.name for output in response.outputs] == ["right"]
        assert manager.find("one", "").statistics.success.count == 0
        both = await asked(manager, "sides", outputs=(RequestedOutput("right"), RequestedOutput("left")))
    assert [(output.name, output.array[0, 0]) for output in both.outputs] == [("right", 10), ("left", 1)]


async def test_an_error_of_a_step_says_in_which_ensemble_and_counts_there(root: Path) -> None:
    onnx_models.save_version(root, "gather", onnx_models.gather(), config=EIGHT)
    steps = ensembles.step("gather", [("x", "in")], [("y", "out")])
    config = ensembles.config(steps).replace("dims: 4", "dims: 1").replace("TYPE_FP32", "TYPE_INT64", 1)
    ensembles.save(root, "pick", config)
    async with manager_of(root) as manager:
        await manager.load_all()
        with pytest.raises(InvalidArgument, match=r"^in ensemble 'pick', "):
            await manager.find("pick", "").infer(index(99, "in"))
        assert manager.find("pick", "").statistics.fail.count == 1


async def test_what_does_not_fit_the_ensemble_is_refused_before_any_step(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        with pytest.raises(InvalidArgument, match=r"batch-size must be <= 8 for 'sum'"):
            await asked(manager, "sum", rows=9)
        with pytest.raises(InvalidArgument, match="'priority' must be a whole number"):
            await asked(manager, "sum", parameters={"priority": "high"})
        assert manager.find("one", "").statistics.fail.count == 0


async def test_a_deadline_holds_for_the_steps(root: Path) -> None:
    onnx_models.save_version(root, "slow", onnx_models.slow_as_asked(), config=EIGHT)
    ensembles.save(root, "late", ensembles.config(ensembles.chain("one", "slow")))
    async with manager_of(root) as manager:
        await manager.load_all(["late"])
        with pytest.raises(DeadlineExceeded, match="in ensemble 'late', "):
            await asked(manager, "late", 2e9, deadline_ns=time.monotonic_ns() + 50_000_000)


async def test_a_cancelled_request_takes_its_steps_with_it(root: Path) -> None:
    onnx_models.save_version(root, "slow", onnx_models.slow_as_asked(), config=EIGHT)
    two_sides(root, "slow", "slow")
    async with manager_of(root) as manager:
        await manager.load_all(["sides"])
        slow = manager.find("slow", "")
        task = asyncio.create_task(asked(manager, "sides", 2e9))
        while not any(instance.running for each in slow.schedulers for instance in each.instances):  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slow.statistics.fail.count == 2
        assert manager.find("sides", "").statistics.fail.count == 1


async def test_labels_come_from_the_model_that_gives_the_tensor(root: Path) -> None:
    config = EIGHT + 'output { name: "y" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }'
    put(root, "ten", 10, config=config)
    (root / "ten" / "labels.txt").write_text("a\nb\nc\nd\n")
    async with manager_of(root) as manager:
        await manager.load_all()
        response = await asked(manager, "sum", outputs=(RequestedOutput("out", class_count=1),))
    assert response.outputs[0].array.tolist() == [[b"11.000000:0:a"]]


async def test_an_optional_input_of_a_model_may_be_left_to_it(root: Path) -> None:
    onnx_models.save_version(root, "default", onnx_models.with_default(7, ["n", 4]), config="max_batch_size: 0\n")
    proto = onnx_models.with_default(7, ["n", 4])
    names = [given.name for given in proto.graph.input]
    outputs = [given.name for given in proto.graph.output]
    steps = ensembles.step("default", [(names[0], "in")], [(outputs[0], "out")])
    config = ensembles.config(steps, max_batch_size=0).replace("dims: 4", "dims: [ -1, 4 ]")
    ensembles.save(root, "defaults", config)
    async with manager_of(root) as manager:
        await manager.load_all()
        assert await answer(manager, "defaults", 1) != 1


# -- following its models ---------------------------------------------------------------------------------------------


async def test_an_ensemble_is_ready_whatever_comes_first(root: Path) -> None:
    ensembles.save(root, "a_first", ensembles.config(ensembles.chain("z_last", "one")))
    ensembles.save_like_a_model(root, "z_last", "one", "ten")
    async with manager_of(root) as manager:
        await manager.load_all()
        assert {state for state, _ in states(manager).values()} == {"READY"}
        assert await answer(manager, "a_first") == 12
        assert manager.all_ready()


async def test_loading_an_ensemble_loads_its_models_and_unloading_it_with_dependents_takes_them_along(
    root: Path,
) -> None:
    async with manager_of(root) as manager:
        await manager.load_all(["ten"])
        await manager.load("sum")
        assert await answer(manager, "sum") == 11
        await manager.unload("sum", dependents=True)
        found = states(manager)
        assert found["sum"] == ("UNLOADING", "") or found["sum"] == ("UNAVAILABLE", "unloaded")
        assert found["ten"] == ("READY", "")  # somebody asked for it by its name
        with pytest.raises(NotFound):
            manager.find("one", "")
        assert manager.all_ready()


async def test_unloading_an_ensemble_alone_leaves_its_models(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all(["sum"])
        await manager.unload("sum")
        assert states(manager)["one"] == ("READY", "")


async def test_an_ensemble_goes_and_comes_back_with_a_model_of_its(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        await manager.unload("one")
        with pytest.raises(NotFound):
            manager.find("sum", "")
        await manager._retirement.completed()
        reason = "unloaded: ensemble 'sum' depends on 'one' which has no loaded version"
        assert states(manager)["sum"] == ("UNAVAILABLE", reason)
        assert manager.all_ready()  # nobody wanted it otherwise
        await manager.load("one")
        assert await answer(manager, "sum") == 11
        assert states(manager)["sum"] == ("READY", "")


async def test_what_is_unloaded_because_of_one_model_is_not_missed_because_of_another(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        await manager.unload("one")
        put(root, "ten", 20)
        await manager.load("ten")
        assert manager.all_ready()


async def test_a_model_that_is_replaced_is_replaced_in_its_ensembles_without_an_error(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        answers: list[float] = []

        async def keep_asking() -> None:
            while len(answers) < 10_000 and (not answers or answers[-1] < 25):
                answers.append(await answer(manager, "sum"))

        asking = asyncio.create_task(keep_asking())
        await asyncio.sleep(0)
        put(root, "one", 5)
        await manager.load("one")
        put(root, "ten", 20)
        await manager.load("ten")
        await asking
        await manager._retirement.completed()
    assert sorted(set(answers)) == [*dict.fromkeys(answers)]
    assert set(answers) <= {11, 15, 25}
    assert answers[-1] == 25


async def test_an_ensemble_keeps_what_it_was_bound_to_when_the_new_model_does_not_fit(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        double = onnx_models.identity(TensorProto.DOUBLE)
        shutil.rmtree(root / "one")
        onnx_models.save_version(root, "one", double, config=EIGHT)
        await manager.load("one")
        assert await answer(manager, "sum") == 11
        state, reason = states(manager)["sum"]
        assert state == "READY"
        assert "inconsistent data type: TYPE_FP32 is inferred from ensemble sum while TYPE_FP64" in reason
        put(root, "one", 2)
        await manager.load("one")
        assert await answer(manager, "sum") == 12
        assert states(manager)["sum"] == ("READY", "")


async def test_polling_follows_models_and_ensembles(root: Path) -> None:
    async with manager_of(root) as manager:
        await manager.load_all()
        shutil.rmtree(root / "one")
        await manager.poll()
        with pytest.raises(NotFound):
            manager.find("sum", "")
        put(root, "one", 100)
        await manager.poll()
        assert await answer(manager, "sum") == 110


async def test_a_version_may_be_asked_for(root: Path) -> None:
    put(root, "one", 2, version=2, config=EIGHT + "version_policy { all { } }")
    ensembles.save(root, "sum", ensembles.config(ensembles.chain("one", version=1)))
    ensembles.save(root, "newest", ensembles.config(ensembles.chain("one")))
    ensembles.save(root, "gone", ensembles.config(ensembles.chain("one", version=3)))
    async with manager_of(root) as manager:
        await manager.load_all()
        assert (await answer(manager, "sum"), await answer(manager, "newest")) == (1, 2)
        reason = "ensemble 'gone' depends on 'one' whose required version 3 is not loaded"
        assert states(manager)["gone"] == ("UNAVAILABLE", reason)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (ensembles.chain("nowhere"), "ensemble 'e' depends on 'nowhere' which has no loaded version"),
        (ensembles.chain("e"), "circular dependency between ensembles: e -> e"),
        (ensembles.chain("f"), "circular dependency between ensembles: e -> f -> e"),
        (ensembles.step("one", [("z", "in")], [("y", "out")]), "is mapping to non-existing input z in model one"),
        (ensembles.step("one", [("x", "lost")], [("y", "out")]), "ensemble tensor lost"),
    ],
)
async def test_an_ensemble_that_cannot_be_says_why(root: Path, steps: str, said: str) -> None:
    ensembles.save(root, "e", ensembles.config(steps))
    ensembles.save(root, "f", ensembles.config(ensembles.chain("e")))
    async with manager_of(root) as manager:
        await manager.load_all()
        assert said in states(manager)["e"][1]
        with pytest.raises(InvalidArgument, match="load failed for model 'e': ") as refused:
            await manager.load("e")
        assert said in refused.value.message
        assert states(manager)["sum"] == ("READY", "")


async def test_an_ensemble_may_come_with_the_load(root: Path) -> None:
    (root / "sum" / "1").rmdir()
    async with manager_of(root) as manager:
        await manager.load_all([])
        config = (
            '{"max_batch_size": 8, "input": [{"name": "in", "data_type": "TYPE_FP32", "dims": [4]}], '
            '"output": [{"name": "out", "data_type": "TYPE_FP32", "dims": [4]}], "ensemble_scheduling": {"step": '
            '[{"model_name": "ten", "input_map": {"x": "in"}, "output_map": {"y": "out"}}]}}'
        )
        await manager.load("sent", LoadOverride(config, {"1/empty": b""}))
        assert await answer(manager, "sent", 1) == 11


async def test_ensembles_nested_too_deep_are_refused_and_the_others_are_served(tmp_path: Path) -> None:
    put(tmp_path, "one", 1)
    for depth in range(40):
        ensembles.save_like_a_model(tmp_path, f"e{depth}", f"e{depth - 1}" if depth else "one")
    async with manager_of(tmp_path) as manager:
        await manager.load_all(["e39"])
        assert "depends on" in states(manager)["e39"][1]
        await manager.load("e20")
        assert manager.find("e20", "").number == 1


# -- keeping answers --------------------------------------------------------------------------------------------------

CACHED = "response_cache { enable: true } "


async def test_an_answer_that_is_kept_skips_every_step_until_a_model_is_replaced(root: Path) -> None:
    ensembles.save(root, "sum", ensembles.config(ensembles.chain("one", "ten"), extra=CACHED))
    cache = ResponseCache(1 << 20)
    async with manager_of(root, cache=cache) as manager:
        await manager.load_all()
        first, second = await asked(manager, "sum", id="a"), await asked(manager, "sum", id="b")
        assert second.id == "b"
        assert np.array_equal(first.outputs[0].array, second.outputs[0].array)
        numbers = manager.find("sum", "").statistics
        assert (numbers.success.count, numbers.inference_count, numbers.queue.count) == (2, 1, 2)
        assert (numbers.cache_hit.count, numbers.cache_miss.count) == (1, 1)
        assert manager.find("one", "").statistics.success.count == 1
        put(root, "one", 5)
        await manager.load("one")
        assert await answer(manager, "sum") == 15
        await manager._retirement.completed()
        assert len(cache) == 1


async def test_a_model_keeps_answers_but_no_errors_and_no_sequences(root: Path) -> None:
    onnx_models.save_version(root, "gather", onnx_models.gather(), config=EIGHT + CACHED)
    async with manager_of(root, cache=ResponseCache(1 << 20)) as manager:
        await manager.load_all(["gather"])
        version = manager.find("gather", "")
        for _ in range(3):
            assert (await version.infer(index(3))).outputs[0].array[0, 0] == 3
            with pytest.raises(InvalidArgument):
                await version.infer(index(99))
        await version.infer(replace(index(3), parameters={"sequence_id": 1}))
        numbers = version.statistics
        assert (numbers.cache_hit.count, numbers.cache_miss.count, numbers.fail.count) == (2, 1, 3)
        assert (numbers.success.count, numbers.execution_count) == (4, 2)


async def test_a_large_request_is_kept_as_well_and_the_version_waits_for_it(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "wide", onnx_models.adder(1, ["n", 1 << 20]), config=EIGHT + CACHED)
    async with manager_of(tmp_path, cache=ResponseCache(1 << 28)) as manager:
        await manager.load_all()
        array = np.zeros((2, 1 << 20), np.float32)
        wide = InferenceRequest("wide", inputs=(Tensor("x", FP32, array.shape, array),))
        version = manager.find("wide", "")
        asking = asyncio.create_task(version.infer(wide))
        await asyncio.sleep(0)
        await manager.unload("wide")
        assert (await asking).outputs[0].array[0, 0] == 1
        assert version.statistics.cache_miss.count == 1


async def test_without_a_cache_nothing_is_kept_and_the_operator_is_told(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(root, "one", 1, config=EIGHT + CACHED)
    async with manager_of(root) as manager:
        await manager.load_all(["one"])
        assert not manager.find("one", "").keeps_answers
    assert "response_cache has no effect without --cache-config" in caplog.text
