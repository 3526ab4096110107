import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ortolan.core.frontend_trace import GRPC, HTTP, FrontendTrace
from ortolan.core.span import Span
from ortolan.core.span_ids import SpanIds
from ortolan.core.span_traces import SpanTraces
from ortolan.core.trace_context import TraceContext
from ortolan.core.trace_settings import ALL_MODELS, TraceSettings
from ortolan.core.tracing import Tracing
from ortolan.errors import InvalidArgument, QueueFull
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.execution.request_parts import JoinedTimes
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor

CALLER = TraceContext(0xABC, 0xDEF, 1, (("x", "1"),))
UNSAMPLED = TraceContext(0xABC, 0xDEF, 0)


class Spans:
    """A receiver of spans, as OpenTelemetry's is one."""

    def __init__(self) -> None:
        self.all: list[Span] = []
        self.puts = 0

    def put(self, spans: Sequence[Span]) -> None:
        self.puts += 1
        self.all += spans

    def close(self) -> None: ...

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def __getitem__(self, name: str) -> Span:
        (span,) = [span for span in self.all if span.name == name]
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


def never(delay_s: float, call: Callable[[], None]) -> None:
    """Batches end with the tracing."""


def tracing_to(spans: Spans, level: str = "TIMESTAMPS", rate: int = 1, count: int = -1) -> Tracing:
    settings = TraceSettings((level,), rate, count, mode="opentelemetry")
    return Tracing(settings, sink=SpanTraces(spans, SpanIds(1), never))


def frontend(parent: TraceContext | None = None) -> FrontendTrace:
    return FrontendTrace(HTTP, "/v2/models/m/infer", parent)


def times(start_ns: int = 100) -> ExecutionTimes:
    return ExecutionTimes(start_ns, start_ns + 10, start_ns + 30, start_ns + 40)


def is_traced(tracing: Tracing, parent: TraceContext | None = None, model: str = "m") -> bool:
    with tracing.following(InferenceRequest(model), 1, frontend(parent)) as trace:
        return trace is not None


def test_the_spans_of_a_request_stand_below_each_other(spans: Spans) -> None:
    tracing, caller = tracing_to(spans), frontend()
    caller.received()
    with tracing.following(InferenceRequest("m", id="a"), 3, caller) as trace:
        assert trace is not None
        trace.executed(50, times(), 4)
    assert not spans.all
    caller.sending(200)
    caller.sent()
    caller.sent()
    tracing.close()
    assert spans.names == ["m", "queue", "compute", "InferRequest", "batch"]
    model, queue, compute, request, batch = spans.all
    assert (request.parent, request.is_server, request.error) == (None, True, None)
    assert [span.parent for span in (model, queue, compute)] == [request.context, model.context, model.context]
    assert len({span.context.span_id for span in spans.all}) == 5
    assert {span.context.trace_id for span in spans.all[:4]} == {request.context.trace_id} != {batch.context.trace_id}
    assert (compute.links, batch.links) == ((batch.context,), [request.context])
    assert (queue.end_ns - queue.start_ns, compute.start_ns - queue.end_ns) == (50, 0)
    assert [(event.name, event.time_ns - compute.start_ns) for event in compute.events] == [
        ("COMPUTE_INPUT_END", 10),
        ("COMPUTE_OUTPUT_START", 30),
    ]
    assert request.start_ns <= model.start_ns <= model.end_ns <= request.end_ns
    assert request.attributes == {
        "triton.model_name": "m",
        "triton.model_version": 3,
        "triton.trace_request_id": "a",
        "ortolan.protocol": "http",
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "ortolan.outcome": "success",
        "ortolan.batch.rows": 4,
    }
    assert [event.name for event in request.events] == [
        "HTTP_RECV_START",
        "HTTP_RECV_END",
        "HTTP_SEND_START",
        "HTTP_SEND_END",
    ]


def test_a_request_belongs_to_the_trace_of_its_caller(spans: Spans) -> None:
    tracing, caller = tracing_to(spans), frontend(CALLER)
    assert caller.trace_id == f"{0xABC:032x}"
    assert caller.response_headers == ()
    with tracing.following(InferenceRequest("m"), 1, caller):
        assert caller.trace_id == f"{0xABC:032x}"
        ((name, header),) = caller.response_headers
    caller.sent()
    request = spans["InferRequest"]
    assert (request.parent, request.parent_is_remote, request.context.state) == (CALLER, True, CALLER.state)
    assert (name, header) == ("traceresponse", f"00-{0xABC:032x}-{request.context.span_id:016x}-01")


def test_a_request_without_a_caller_begins_a_trace_of_a_random_id(spans: Spans) -> None:
    tracing, caller = tracing_to(spans), frontend()
    assert caller.trace_id == ""
    with tracing.following(InferenceRequest("m"), 1, caller):
        pass
    ((_, header),) = caller.response_headers
    assert header == f"00-{caller.trace_id}-{caller.span.span_id:016x}-03"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rate", "count", "parents", "chosen"),
    [
        (0, -1, [CALLER, None, CALLER], [True, False, True]),  # only those whose callers trace them
        (1000, -1, [CALLER, CALLER], [True, True]),
        (2, -1, [None, CALLER, None, CALLER, None, None], [False, True, True, True, False, True]),  # nor are counted
        (1, 1, [CALLER, None, None, CALLER], [True, True, False, True]),  # nor use the count up
        (1, 0, [CALLER, None], [True, False]),
        (2, -1, [UNSAMPLED, UNSAMPLED], [False, True]),  # who does not trace decides nothing
    ],
)
def test_who_is_traced_by_the_caller_is_traced_whatever_rate_and_count_say(
    spans: Spans, rate: int, count: int, parents: list[TraceContext | None], chosen: list[bool]
) -> None:
    tracing = tracing_to(spans, rate=rate, count=count)
    assert [is_traced(tracing, parent) for parent in parents] == chosen
    assert tracing.on


def test_where_the_level_is_off_nobody_is_traced(spans: Spans) -> None:
    tracing = tracing_to(spans)
    tracing.change("m", {"trace_level": "OFF"})
    assert (is_traced(tracing, CALLER), is_traced(tracing, CALLER, "n")) == (False, True)
    tracing.change(ALL_MODELS, {"trace_level": "OFF"})
    assert not tracing.on


def test_what_goes_where_nothing_is_traced_is_counted_all_the_same(spans: Spans) -> None:
    tracing = tracing_to(spans, rate=3)
    passed = []
    for _ in range(6):
        passed.append(tracing.passes_over("m"))
        if not passed[-1]:
            assert tracing.chooses_next("m")
            assert is_traced(tracing)
    assert passed == [True, True, False] * 2


@pytest.mark.parametrize(
    ("error", "outcome", "kind", "message"),
    [
        (InvalidArgument("no such input"), "backend", "InvalidArgument", "InvalidArgument: no such input"),
        (QueueFull("full"), "rejected", "QueueFull", "QueueFull: full"),
        (asyncio.CancelledError(), "canceled", "Cancelled", "Cancelled: no one waited for the answer any more"),
        (RuntimeError("/a/path"), "backend", "Internal", "Internal: the server failed; its log has the details"),
    ],
)
def test_a_request_that_fails_ends_its_spans_once_with_the_kind_of_error(
    spans: Spans, error: BaseException, outcome: str, kind: str, message: str
) -> None:
    tracing, caller = tracing_to(spans), FrontendTrace(GRPC, "ModelInfer")
    with pytest.raises(type(error)), tracing.following(InferenceRequest("m"), 1, caller):
        raise error
    assert not spans.all
    caller.code = 3
    caller.sent()
    caller.sent()
    tracing.close()
    assert spans.names == ["m", "InferRequest"]
    for span in spans.all:
        assert span.error == message
        assert (span.attributes["ortolan.outcome"], span.attributes["error.type"]) == (outcome, kind)
    assert spans["InferRequest"].attributes["rpc.grpc.status_code"] == 3


def test_without_a_frontend_a_trace_ends_with_its_request(spans: Spans) -> None:
    with tracing_to(spans).following(InferenceRequest("m"), 1, None):
        pass
    assert spans.names == ["m", "InferRequest"]


def test_an_answer_for_which_nothing_ran_came_from_the_cache(spans: Spans) -> None:
    with tracing_to(spans).following(InferenceRequest("m"), 1, None):
        pass
    assert spans["m"].attributes["ortolan.cache_hit"] is True


def test_the_steps_of_an_ensemble_are_models_below_it(spans: Spans) -> None:
    tracing = tracing_to(spans)

    def walk() -> None:
        with tracing.following(InferenceRequest("e"), 1, None) as trace:
            assert trace is not None
            with trace.step("inner", 1) as inner:
                assert inner is not None
                with inner.step("a", 2) as step:
                    assert step is not None
                    step.executed(5, times(), 1)
                inner.walked(5, times())
            with trace.step("b", 3):
                raise QueueFull("full")

    with pytest.raises(QueueFull):
        walk()
    tracing.close()
    assert spans.names == ["e", "inner", "a", "queue", "compute", "b", "InferRequest", "batch"]
    below = {span.name: span.parent for span in spans.all}
    assert below["e"] == spans["InferRequest"].context
    assert below["inner"] == below["b"] == spans["e"].context
    assert below["a"] == spans["inner"].context
    assert below["compute"] == spans["a"].context
    assert (spans["a"].error, spans["b"].error, spans["e"].error) == (None, "QueueFull: full", "QueueFull: full")
    assert "ortolan.cache_hit" not in spans["inner"].attributes
    assert spans["batch"].links == [spans["InferRequest"].context]


def test_a_request_in_parts_has_a_span_for_each_of_its_runs_and_no_more_than_a_few(spans: Spans) -> None:
    tracing = tracing_to(spans)
    parts = [(times(100 + 50 * number), 8) for number in range(100)]
    with tracing.following(InferenceRequest("m"), 1, None) as trace:
        assert trace is not None
        trace.executed(7, JoinedTimes(100, 100, 9000, 9000, parts), 8)
    tracing.close()
    assert [spans.names.count(name) for name in ("compute", "batch", "queue")] == [32, 32, 1]
    assert spans["m"].attributes["ortolan.executions"] == 100


def test_tensors_are_events_and_end_early(spans: Spans) -> None:
    tracing = tracing_to(spans, level="TENSORS")
    tensors = [Tensor(f"x{number}", FP32, (900,), np.arange(900, dtype=np.float32)) for number in range(40)]
    with tracing.following(InferenceRequest("m"), 1, None) as trace:
        assert trace is not None
        trace.entered(tensors)
    model = spans["m"]
    assert len(model.events) == 32
    event = model.events[0]
    assert event.name == "TENSOR_QUEUE_INPUT"
    assert event.attributes["tensor.name"] == "x0"
    assert event.attributes["tensor.shape"] == "900"
    assert str(event.attributes["tensor.data"]).startswith("0.0,1.0,2.0,")
    assert len(str(event.attributes["tensor.data"])) == 1024


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/models/m/infer", "/v2/models/{model}/infer"),
        ("/v2/models/m/versions/3/infer", "/v2/models/{model}/versions/{version}/infer"),
        ("/v1/models/m:predict", "/v1/models/{model}:predict"),
        ("/v2/models/m/generate", "/v2/models/{model}/generate"),
        ("/invocations", "/invocations"),
    ],
)
def test_a_route_names_no_model_so_that_there_are_few(path: str, route: str) -> None:
    assert FrontendTrace(HTTP, path).attributes["http.route"] == route
