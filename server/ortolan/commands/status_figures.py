"""Two looks at a server → what it does, in people's units; pure.

Where a server tells no histograms, as Triton does not, its statistics and summaries have to do.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ortolan.commands.metrics_text import Bucket, Page, Sample, buckets, quantile

_BUCKETS = "ortolan_request_duration_seconds_bucket"
_SUMMARY = "nv_inference_request_summary_us"
_DEPTHS = ("ortolan_queue_depth", "nv_inference_pending_request_count")
_FAILURES = "nv_inference_request_failure"
_USE = "ortolan_model_utilization"
_MEMORY = "ortolan_model_memory_bytes"
_SERVER_USE = "ortolan_utilization"
_ERRORS = "ortolan_error_responses_total"
_PROCESS_MEMORY = "process_resident_memory_bytes"
METRICS = frozenset((_BUCKETS, _SUMMARY, *_DEPTHS, _FAILURES, _USE, _MEMORY, _SERVER_USE, _ERRORS, _PROCESS_MEMORY))
"""The metrics that are of use here."""

Key = tuple[str, str]
"""A model's name and a version."""


class Entry(NamedTuple):
    """One line of the repository's index; ``version`` is "" for a model without any."""

    model: str
    version: str
    state: str
    reason: str


class Counts(NamedTuple):
    """What a version's statistics have counted since it was loaded."""

    requests: int = 0
    duration_s: float = 0.0
    failures: int = 0
    inferences: int = 0
    executions: int = 0


class Look(NamedTuple):
    """What a server told at one time; ``at_s`` is of a clock that never goes back."""

    at_s: float
    server: str
    is_ready: bool
    entries: Sequence[Entry]
    counts: Mapping[Key, Counts]
    page: Page


class Row(NamedTuple):
    """One version of a model, or a model without one. None: the server does not tell, or there was nothing."""

    model: str
    version: str
    state: str
    reason: str
    requests_per_s: float | None
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    rows_per_batch: float | None
    queue: int | None
    utilization: float | None
    memory_bytes: int | None
    requests: int
    failures: int
    new_failures: int


class Status(NamedTuple):
    """``seconds`` is the time that rates and latencies are of; 0: since the models were loaded."""

    server: str
    is_ready: bool
    seconds: float
    requests_per_s: float | None
    utilization: float | None
    errors: int | None
    memory_bytes: int | None
    rows: Sequence[Row]


def status(first: Look, last: Look) -> Status:
    """What happened between two looks; of one look twice, what happened since the models were loaded."""
    seconds = last.at_s - first.at_s
    before = first if seconds > 0 else Look(last.at_s, last.server, False, (), {}, {})
    rows = tuple(_row(entry, before, last, seconds) for entry in last.entries)
    rates = [row.requests_per_s for row in rows if row.requests_per_s is not None]
    return Status(
        last.server,
        last.is_ready,
        seconds,
        sum(rates) if rates else None,
        _total(last.page, _SERVER_USE),
        _whole(_total(last.page, _ERRORS)),
        _whole(_total(last.page, _PROCESS_MEMORY)),
        rows,
    )


def _row(entry: Entry, first: Look, last: Look, seconds: float) -> Row:
    key = entry.model, entry.version
    now, before = last.counts.get(key), first.counts.get(key, Counts())
    p50, p99 = _quantiles(key, first.page, last.page)
    if now is None:
        return Row(*entry, None, None, p50, p99, None, None, None, None, 0, 0, 0)
    # A version that was loaded anew in between has counted from 0 on.
    if now.requests < before.requests:
        before = Counts()
    requests, executions = now.requests - before.requests, now.executions - before.executions
    failures, failures_before = _failures(key, now, last.page), _failures(key, before, first.page)
    depths = (_total(last.page, name, key) for name in _DEPTHS)
    return Row(
        *entry,
        requests / seconds if seconds > 0 else None,
        1e3 * (now.duration_s - before.duration_s) / requests if requests else None,
        p50,
        p99,
        (now.inferences - before.inferences) / executions if executions else None,
        _whole(next((depth for depth in depths if depth is not None), None)),
        _total(last.page, _USE, key),
        _whole(_total(last.page, _MEMORY, key)),
        now.requests,
        failures,
        max(0, failures - failures_before),
    )


def _quantiles(key: Key, first: Page, last: Page) -> tuple[float | None, float | None]:
    """The 50th and the 99th percentile of what was answered in between, in milliseconds."""
    since, now = _histogram(first, key), _histogram(last, key)
    if now and since and now[-1][1] < since[-1][1]:
        since = ()
    if now:
        found = [quantile(share, since, now) for share in (0.5, 0.99)]
        return (None, None) if found[0] is None or found[1] is None else (1e3 * found[0], 1e3 * found[1])
    summary = {sample.labels.get("quantile"): sample.value for sample in _of(last, _SUMMARY, key)}
    p50, p99 = summary.get("0.5"), summary.get("0.99")
    return (p50 / 1e3 if p50 is not None else None, p99 / 1e3 if p99 is not None else None)


def _histogram(page: Page, key: Key) -> tuple[Bucket, ...]:
    return buckets(_of(page, _BUCKETS, key))


def _failures(key: Key, counts: Counts, page: Page) -> int:
    """Triton's statistics know no refusals; its metrics do."""
    return int(_total(page, _FAILURES, key) or counts.failures)


def _total(page: Page, name: str, key: Key | None = None) -> float | None:
    found = _of(page, name, key)
    return sum(sample.value for sample in found) if found else None


def _of(page: Page, name: str, key: Key | None) -> Sequence[Sample]:
    found = page.get(name, ())
    if key is None:
        return found
    return [each for each in found if (each.labels.get("model"), each.labels.get("version")) == key]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
