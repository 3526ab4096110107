"""``Server-Timing``: where the time of one request went, in milliseconds, in the words of that header's standard."""

from ortolan.inference.request import ResponseTiming

_FORM = 'queue;dur=%.3f, batch;desc="%d", compute;dur=%.3f, encode;dur=%.3f'


def server_timing(timing: ResponseTiming, encode_ns: int) -> str:
    """``queue;dur=0.031, batch;desc="8", compute;dur=1.2, encode;dur=0.01``."""
    return timing_text(timing.queue_ns, timing.batch_rows, timing.compute_ns, encode_ns)


def timing_text(queue_ns: int, batch_rows: int, compute_ns: int, encode_ns: int) -> str:
    """The same of what stands in no ``ResponseTiming``."""
    return _FORM % (queue_ns / 1e6, batch_rows, compute_ns / 1e6, encode_ns / 1e6)
