"""How a client says until when it wants its answer, and the time on our clock that this means."""

import re
import time

from ortolan.errors import InvalidArgument

_LONGEST_S = 86_400.0
_DECIMAL = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


def deadline_after(seconds: float) -> int:
    """The monotonic clock's nanoseconds in ``seconds`` from now."""
    return time.monotonic_ns() + int(min(seconds, _LONGEST_S) * 1e9)


def deadline_of_header(text: str | None) -> int:
    """The deadline that ``X-Request-Timeout`` (seconds, decimals allowed) asks for; 0 without the header."""
    if text is None:
        return 0
    # Not all that float() reads: it takes "1_0", "nan" and other scripts' digits for numbers.
    digits = text.strip()
    seconds = float(digits) if _DECIMAL.fullmatch(digits) else 0.0
    if seconds <= 0:
        raise InvalidArgument(f"X-Request-Timeout must be a number of seconds above 0, got {text[:32]!r}")
    return deadline_after(seconds)
