"""What is known of a traced request when it has ended → its spans. Pure.

    InferRequest            from the first byte to the last, below the caller's span
    └── the model's name
        ├── queue
        └── compute         linked to the span of its batch; several where the request was run in parts
            └ COMPUTE_INPUT_END, COMPUTE_OUTPUT_START as events

Of an ensemble there are the models of its steps, in the place of queue and compute. Names are Triton's.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

from ortolan.core.span import Span, SpanEvent
from ortolan.core.span_trace import Run, SpanTrace
from ortolan.core.trace import TracedTensor, element_texts

REQUEST = "InferRequest"
_BEGIN, _END = "REQUEST_START", "REQUEST_END"
_OF_MODEL = frozenset((_BEGIN, "INFER_RESPONSE_COMPLETE", _END))
_MOST_TENSORS = 32
_LONGEST_DATA = 1024


def spans_of(trace: SpanTrace) -> list[Span]:
    """The spans of the request that ``trace``, that of the model which was asked, is about.

    That of the request comes last: whoever has received it has received the others.
    """
    return [*_model_spans(trace), _request_span(trace)]


def _request_span(trace: SpanTrace) -> Span:
    times = [time_ns for _, time_ns in trace.times]
    attributes = {**_who(trace), **(trace.frontend.attributes if trace.frontend else {}), **_outcome(trace)}
    if trace.runs:
        attributes["ortolan.batch.rows"] = max(run.batch_rows for run in trace.runs)
    events = [SpanEvent(name, at + trace.epoch_ns) for name, at in trace.times if name not in _OF_MODEL]
    return Span(
        REQUEST,
        trace.request,
        trace.parent,
        min(times) + trace.epoch_ns,
        max(times) + trace.epoch_ns,
        attributes,
        events,
        is_server=True,
        error=_error(trace),
        parent_is_remote=trace.parent is not None,
    )


def _model_spans(trace: SpanTrace, above: SpanTrace | None = None) -> Iterator[Span]:
    times = dict(trace.times)
    yield Span(
        trace.model_name,
        trace.span,
        trace.request if above is None else above.span,
        times[_BEGIN] + trace.epoch_ns,
        times[_END] + trace.epoch_ns,
        {**_who(trace), **_outcome(trace)},
        list(_tensor_events(trace, times)),
        error=_error(trace),
    )
    for step in trace.steps:
        yield from _model_spans(step, trace)
    if trace.runs:
        start_ns = min(run.times.start_ns for run in trace.runs) + trace.epoch_ns
        queue = trace.span.child(trace.ids.next_span())
        yield Span("queue", queue, trace.span, start_ns - trace.queue_ns, start_ns, {})
    for run in trace.runs:
        yield _compute_span(trace, run)


def _compute_span(trace: SpanTrace, run: Run) -> Span:
    times, epoch_ns = run.times, trace.epoch_ns
    return Span(
        "compute",
        trace.span.child(trace.ids.next_span()),
        trace.span,
        times.start_ns + epoch_ns,
        times.end_ns + epoch_ns,
        {"ortolan.batch.rows": run.batch_rows},
        (
            SpanEvent("COMPUTE_INPUT_END", times.input_end_ns + epoch_ns),
            SpanEvent("COMPUTE_OUTPUT_START", times.output_start_ns + epoch_ns),
        ),
        links=(run.batch,),
    )


def _who(trace: SpanTrace) -> dict[str, str | int | bool]:
    told: dict[str, str | int | bool] = {
        "triton.model_name": trace.model_name,
        "triton.model_version": trace.model_version,
    }
    if trace.request_id:
        told["triton.trace_request_id"] = trace.request_id
    return told


def _outcome(trace: SpanTrace) -> Mapping[str, str | int | bool]:
    if trace.failure is not None:
        return {"ortolan.outcome": trace.failure.outcome, "error.type": trace.failure.kind}
    told: dict[str, str | int | bool] = {"ortolan.outcome": "success"}
    if trace.came_from_cache:
        told["ortolan.cache_hit"] = True
    if trace.run_count > 1:
        told["ortolan.executions"] = trace.run_count
    return told


def _error(trace: SpanTrace) -> str | None:
    return None if trace.failure is None else f"{trace.failure.kind}: {trace.failure.message}"


def _tensor_events(trace: SpanTrace, times: Mapping[str, int]) -> Iterator[SpanEvent]:
    """The beginnings of tensors, where the level says TENSORS: as short as spans should be."""
    for tensor in islice(trace.tensors, _MOST_TENSORS):
        at_ns = times[_BEGIN if tensor.activity == "TENSOR_QUEUE_INPUT" else _END]
        yield SpanEvent(tensor.activity, at_ns + trace.epoch_ns, _tensor_attributes(tensor))


def _tensor_attributes(tensor: TracedTensor) -> Mapping[str, str]:
    return {
        "tensor.name": tensor.name,
        "tensor.dtype": tensor.datatype.name,
        "tensor.shape": ",".join(map(str, tensor.shape)),
        "tensor.data": ",".join(islice(element_texts(tensor), _LONGEST_DATA // 2))[:_LONGEST_DATA],
    }
