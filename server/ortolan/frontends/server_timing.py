"""``Server-Timing``: where the time of one request went, in milliseconds, in the words of that header's standard."""

from ortolan.inference.request import ResponseTiming


def server_timing(timing: ResponseTiming, encode_ns: int) -> str:
    """``queue;dur=0.031, batch;desc="8", compute;dur=1.2, encode;dur=0.01``."""
    return (
        f'queue;dur={timing.queue_ns / 1e6:.3f}, batch;desc="{timing.batch_rows}", '
        f"compute;dur={timing.compute_ns / 1e6:.3f}, encode;dur={encode_ns / 1e6:.3f}"
    )
