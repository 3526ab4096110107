"""Between the tensors that clients see and those that the graph has; and which requests may share a batch."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.core.model_version import LoadedModel, ModelVersion
from ortolan.errors import DeadlineExceeded, Internal, InvalidArgument, QueueFull, RequestTimeout
from ortolan.execution.batch_policy import Batching
from ortolan.execution.calibration import Profile
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import BYTES, FP32, INT64, Array, Datatype
from ortolan.inference.request import InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.model_config import DynamicBatching, InstanceKind, ModelConfig

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def config_of(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], max_batch_size: int = 8) -> ModelConfig:
    batching = DynamicBatching() if max_batch_size else None
    return ModelConfig(
        "m", max_batch_size=max_batch_size, inputs=tuple(inputs), outputs=tuple(outputs), dynamic_batching=batching
    )


@asynccontextmanager
async def version_of(
    proto: onnx.ModelProto,
    config: ModelConfig,
    labels: dict[str, tuple[str, ...]] | None = None,
    limits: QueueLimits | None = None,
) -> AsyncIterator[ModelVersion]:
    """A version that is not started yet, so that what is asked before ``start`` waits together."""
    session = Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())
    plan = SchedulingPlan(Batching.of(config), LinePolicy())
    instances = (("m_0", session, DeviceShare(1)),)
    loaded = LoadedModel("m", 3, config, instances, plan, Profile(), ("CPU",), 1, (), 77, labels or {})
    version = ModelVersion(loaded, limits or QueueLimits(100), asyncio.get_running_loop())
    yield version
    version.refuse_new()
    assert await asyncio.to_thread(version.join, 30.0)


def tensor(array: Array, name: str = "x", datatype: Datatype = FP32) -> Tensor:
    return Tensor(name, datatype, array.shape, array)


def floats(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def request(*tensors: Tensor, outputs: Sequence[RequestedOutput] = (), request_id: str = "") -> InferenceRequest:
    return InferenceRequest("m", id=request_id, inputs=tensors, outputs=tuple(outputs))


X4, Y4 = TensorSpec("x", FP32, (4,)), TensorSpec("y", FP32, (4,))
DOUBLER = config_of([X4], [Y4])


async def asked_together(version: ModelVersion, requests: Sequence[InferenceRequest]) -> list[InferenceResponse]:
    tasks = [asyncio.create_task(version.infer(each)) for each in requests]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    version.start()
    return await asyncio.gather(*tasks)


def batch_sizes(version: ModelVersion) -> list[int]:
    return sorted(version.statistics.batches)


async def test_an_answer_carries_the_requests_id_and_the_versions_number() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        version.start()
        response = await version.infer(request(tensor(floats(2, 4)), request_id="abc"))
        assert (response.model_name, response.model_version, response.id) == ("m", "3", "abc")
        (output,) = response.outputs
        assert (output.name, output.datatype, output.shape) == ("y", FP32, (2, 4))
        assert output.array.tolist() == (2 * floats(2, 4)).tolist()
        assert version.statistics.load_duration_ns == 77
        assert version.waiting_requests == 0


async def test_what_does_not_fit_is_refused_before_it_is_queued() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        with pytest.raises(InvalidArgument, match=r"^\[request id: <id_unknown>\] unexpected shape for input 'x'"):
            await version.infer(request(tensor(floats(2, 5))))
        with pytest.raises(InvalidArgument, match=r"^\[request id: a\\nb\] unexpected shape for input 'x'"):
            await version.infer(request(tensor(floats(2, 5)), request_id="a\nb"))
        assert version.waiting_requests == 0
        assert version.statistics.fail.count == 0
        version.start()


TWO = onnx_models.model(
    [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["x"], ["b"])],
    [("x", TensorProto.FLOAT, ["batch", 4])],
    [("a", TensorProto.FLOAT, ["batch", 4]), ("b", TensorProto.FLOAT, ["batch", 4])],
)
TWO_CONFIG = config_of([X4], [TensorSpec("a", FP32, (4,)), TensorSpec("b", FP32, (4,))])


@pytest.mark.parametrize(("asked", "given"), [((), ("a", "b")), (("b",), ("b",)), (("b", "a"), ("b", "a"))])
async def test_outputs_are_those_that_were_asked_for_or_all(asked: tuple[str, ...], given: tuple[str, ...]) -> None:
    async with version_of(TWO, TWO_CONFIG) as version:
        version.start()
        response = await version.infer(request(tensor(floats(1, 4)), outputs=[RequestedOutput(name) for name in asked]))
        assert tuple(output.name for output in response.outputs) == given
        assert {output.name: output.array[0, 1] for output in response.outputs if output.name in given} == {
            name: {"a": -1, "b": 1}[name] for name in given
        }


def graph(shape: Sequence[int | str | None]) -> onnx.ModelProto:
    return onnx_models.doubler(shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dims", "reshape", "graph_shape", "max_batch_size", "shape"),
    [
        ((4,), (2, 2), ["batch", 2, 2], 8, (3, 4)),
        ((2, 2), (4,), ["batch", 4], 8, (3, 2, 2)),
        ((1,), (), ["batch"], 8, (3, 1)),  # a number for each row
        ((1,), (), [], 0, (1,)),  # a scalar
        ((4,), (2, 2), [2, 2], 0, (4,)),
        ((-1, 4), (-1, 2, 2), ["batch", "n", 2, 2], 8, (2, 5, 4)),  # a variable size is carried over
        ((-1, 4), (-1, 2, 2), ["batch", "n", 2, 2], 8, (2, 0, 4)),  # even nothing
        ((2, -1, 6, -1), (-1, 3, 4, -1), ["batch", "n", 3, 4, "k"], 8, (1, 2, 5, 6, 7)),  # several, in their order
    ],
)
async def test_clients_see_dims_where_the_graph_has_reshape(
    dims: tuple[int, ...],
    reshape: tuple[int, ...],
    graph_shape: list[int | str | None],
    max_batch_size: int,
    shape: tuple[int, ...],
) -> None:
    config = config_of(
        [TensorSpec("x", FP32, dims, reshape=reshape)],
        [TensorSpec("y", FP32, dims, reshape=reshape)],
        max_batch_size,
    )
    async with version_of(graph(graph_shape), config) as version:
        version.start()
        (output,) = (await version.infer(request(tensor(floats(*shape))))).outputs
        assert output.shape == output.array.shape == shape
        assert output.array.tolist() == (2 * floats(*shape)).tolist()


async def test_input_and_output_may_be_reshaped_each_in_its_way() -> None:
    config = config_of([TensorSpec("x", FP32, (4,), reshape=(2, 2))], [TensorSpec("y", FP32, (2, 2))])
    async with version_of(graph(["batch", 2, 2]), config) as version:
        version.start()
        assert (await version.infer(request(tensor(floats(3, 4))))).outputs[0].shape == (3, 2, 2)


async def test_requests_of_one_fixed_shape_share_a_batch() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        responses = await asked_together(version, [request(tensor(floats(rows, 4))) for rows in (1, 2, 3)])
        assert [response.outputs[0].shape for response in responses] == [(1, 4), (2, 4), (3, 4)]
        assert batch_sizes(version) == [6]


async def test_requests_share_a_batch_only_where_their_variable_sizes_agree() -> None:
    config = config_of([TensorSpec("x", FP32, (-1,))], [TensorSpec("y", FP32, (-1,))])
    async with version_of(onnx_models.doubler(("batch", "n")), config) as version:
        responses = await asked_together(
            version, [request(tensor(floats(rows, size))) for rows, size in ((1, 3), (2, 3), (1, 5), (4, 5))]
        )
        assert [response.outputs[0].shape for response in responses] == [(1, 3), (2, 3), (1, 5), (4, 5)]
        assert batch_sizes(version) == [3, 5]


async def test_requests_share_a_batch_only_where_they_give_the_same_inputs() -> None:
    proto = onnx_models.model(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", 4]), ("c", TensorProto.FLOAT, ["batch", 1])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {"c": np.ones((1, 1), np.float32)},
    )
    config = config_of([X4, TensorSpec("c", FP32, (1,), optional=True)], [Y4])
    with_c = [request(tensor(np.full((1, 1), 5, np.float32), "c"), tensor(floats(1, 4))) for _ in range(2)]
    swapped = request(tensor(floats(1, 4)), tensor(np.full((1, 1), 5, np.float32), "c"))
    async with version_of(proto, config) as version:
        responses = await asked_together(version, [request(tensor(floats(1, 4))), *with_c, swapped])
        assert [response.outputs[0].array[0, 0] for response in responses] == [1, 5, 5, 5]
        assert batch_sizes(version) == [1, 3]  # the order of the inputs makes no difference


async def test_without_a_batch_dimension_each_request_is_executed_by_itself() -> None:
    config = config_of([TensorSpec("x", FP32, (-1, 4))], [TensorSpec("y", FP32, (-1, 4))], max_batch_size=0)
    async with version_of(onnx_models.doubler(), config) as version:
        await asked_together(version, [request(tensor(floats(5, 4)))] * 2)
        assert version.statistics.execution_count == 2
        assert version.statistics.inference_count == 2


async def test_an_output_is_given_as_classes_with_its_labels_where_that_is_asked_for() -> None:
    async with version_of(TWO, TWO_CONFIG, {"b": ("zero", "one", "two", "three")}) as version:
        version.start()
        asked = [RequestedOutput("b", class_count=2), RequestedOutput("a")]
        classes, plain = (await version.infer(request(tensor(floats(1, 4)), outputs=asked))).outputs
        assert (classes.datatype, classes.shape) == (BYTES, (1, 2))
        assert classes.array.tolist() == [[b"3.000000:3:three", b"2.000000:2:two"]]
        assert plain.array.tolist() == [[0, -1, -2, -3]]


async def test_a_cancelled_client_does_not_disturb_the_others() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        tasks = [asyncio.create_task(version.infer(request(tensor(floats(1, 4))))) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        version.start()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)
        assert all(isinstance(result, InferenceResponse) for result in (results[0], results[2]))
        await version.drained()


# -- requests with more rows than a batch may have ---------------------------------------------------------------------

SPLITTING = replace(DOUBLER, parameters={"oversize_requests": "split"})


async def test_a_request_with_too_many_rows_is_refused_with_the_number_allowed() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        version.start()
        with pytest.raises(InvalidArgument, match=r"batch-size must be <= 8 for 'm', got 9\..*'oversize_requests'"):
            await version.infer(request(tensor(floats(9, 4))))


@pytest.mark.parametrize(("rows", "parts"), [(8, [8]), (9, [1, 8]), (16, [8]), (20, [4, 8])])
async def test_a_request_with_too_many_rows_is_split_and_merged_where_that_is_asked_for(
    rows: int, parts: list[int]
) -> None:
    async with version_of(onnx_models.doubler(), SPLITTING) as version:
        version.start()
        response = await version.infer(request(tensor(floats(rows, 4)), request_id="abc"))
        assert response.id == "abc"
        assert response.outputs[0].array.tolist() == (2 * floats(rows, 4)).tolist()
        assert version.statistics.inference_count == rows
        assert batch_sizes(version) == parts
        assert response.timing is not None
        assert response.timing.batch_rows == 8


async def test_every_output_of_a_split_request_is_merged_strings_too() -> None:
    proto = onnx_models.model(
        [helper.make_node("Identity", ["s"], ["t"]), helper.make_node("Neg", ["x"], ["y"])],
        [("s", TensorProto.STRING, ["batch", 1]), ("x", TensorProto.FLOAT, ["batch", 4])],
        [("t", TensorProto.STRING, ["batch", 1]), ("y", TensorProto.FLOAT, ["batch", 4])],
    )
    config = config_of([TensorSpec("s", BYTES, (1,)), X4], [TensorSpec("t", BYTES, (1,)), Y4])
    texts = np.array([[b"%d" % number] for number in range(20)], object)
    async with version_of(proto, replace(config, parameters=SPLITTING.parameters)) as version:
        version.start()
        t, y = (await version.infer(request(tensor(texts, "s", BYTES), tensor(floats(20, 4))))).outputs
        assert t.array.tolist() == texts.tolist()
        assert y.array.tolist() == (-floats(20, 4)).tolist()


async def test_a_part_that_fails_fails_its_request_and_nothing_is_left_behind() -> None:
    config = config_of([TensorSpec("x", INT64, (1,))], [TensorSpec("y", FP32, (1,))])
    async with version_of(onnx_models.gather(), replace(config, parameters=SPLITTING.parameters)) as version:
        version.start()
        indices = np.zeros((20, 1), np.int64)
        indices[12] = 9
        with pytest.raises(InvalidArgument, match="idx=9"):
            await version.infer(request(tensor(indices, datatype=INT64)))
        await version.drained()
        assert version.waiting_requests == 0


async def test_a_part_that_is_refused_at_the_door_refuses_its_request() -> None:
    async with version_of(onnx_models.doubler(), SPLITTING, limits=QueueLimits(1)) as version:
        with pytest.raises(QueueFull):
            await version.infer(request(tensor(floats(20, 4))))
        await version.drained()  # though nothing has started yet
        assert version.waiting_requests == 0
        version.start()


async def test_a_request_of_more_parts_than_may_wait_is_answered_and_counts_once() -> None:
    async with version_of(onnx_models.doubler(), SPLITTING, limits=QueueLimits(2)) as version:
        version.start()
        given = floats(1001, 4)
        response = await version.infer(request(tensor(given)))
        assert np.array_equal(response.outputs[0].array, 2 * given)
        numbers = version.statistics
        assert (numbers.success.count, numbers.queue.count, numbers.fail.count) == (1, 1, 0)
        assert (numbers.inference_count, numbers.execution_count) == (1001, 126)


async def test_cancelling_a_split_request_takes_all_its_parts_out() -> None:
    async with version_of(onnx_models.doubler(), SPLITTING) as version:
        task = asyncio.create_task(version.infer(request(tensor(floats(20, 4)))))
        while version.waiting_requests < 2:  # noqa: ASYNC110 - its parts come in the loop's next turns
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert version.waiting_requests == 0
        version.start()
        await version.drained()
        assert version.statistics.execution_count == 0


async def test_a_model_that_does_not_keep_its_rows_cannot_be_split() -> None:
    async with version_of(onnx_models.first_row(), SPLITTING) as version:
        version.start()
        with pytest.raises(Internal, match=r"output 'y' has shape \[1, 4\] for a part of 8 rows.*cannot be split"):
            await version.infer(request(tensor(floats(9, 4))))


# -- what a request asks of the scheduler ------------------------------------------------------------------------------


async def test_a_parameter_that_is_not_of_its_type_is_refused() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        version.start()
        asked = replace(request(tensor(floats(1, 4))), parameters={"priority": -1})
        with pytest.raises(InvalidArgument, match="request parameter 'priority' must be a whole number"):
            await version.infer(asked)
        await version.infer(replace(asked, parameters={"priority": 0}))


async def test_a_requests_timeout_ends_its_waiting() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        with pytest.raises(RequestTimeout, match="Request timeout expired"):
            await version.infer(replace(request(tensor(floats(1, 4))), parameters={"timeout": 1000}))
        assert version.waiting_requests == 0
        version.start()


async def test_a_requests_deadline_ends_its_waiting() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        deadline_ns = time.monotonic_ns() + 1_000_000
        with pytest.raises(DeadlineExceeded):
            await version.infer(replace(request(tensor(floats(1, 4))), deadline_ns=deadline_ns))
        assert version.waiting_requests == 0
        version.start()


async def test_an_answer_says_where_its_time_went() -> None:
    async with version_of(onnx_models.doubler(), DOUBLER) as version:
        for response in await asked_together(version, [request(tensor(floats(2, 4)))] * 3):
            assert response.timing is not None
            assert response.timing.batch_rows == 6
            assert response.timing.queue_ns > 0
            assert response.timing.compute_ns > 0


@pytest.mark.parametrize(
    ("proto", "shape", "exact"),
    [
        (onnx_models.perceptron(), (64,), False),
        (onnx_models.convolution(), (3, 32, 32), True),
        (onnx_models.doubler(), (4,), True),
    ],
    ids=["perceptron", "convolution", "doubler"],
)
async def test_answers_in_a_batch_are_those_that_requests_get_alone(
    proto: onnx.ModelProto, shape: tuple[int, ...], exact: bool
) -> None:
    y_shape = (8, *shape[1:]) if len(shape) == 3 else shape
    config = config_of([TensorSpec("x", FP32, shape)], [TensorSpec("y", FP32, y_shape)])
    random = np.random.default_rng(0)
    requests = [request(tensor(random.normal(size=(1, *shape)).astype(np.float32))) for _ in range(8)]
    async with version_of(proto, config) as version:
        together = await asked_together(version, requests)
        assert batch_sizes(version) == [8]
        for each, batched in zip(requests, together, strict=True):
            alone = (await version.infer(each)).outputs[0].array
            found = batched.outputs[0].array
            assert np.array_equal(found, alone) or not exact
            np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)
        assert batch_sizes(version) == [1, 8]
