"""Text from clients as it may stand in messages and log lines: nothing in it ends a line or moves a cursor."""

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)

CONTROL_ESCAPES = {code: repr(chr(code))[1:-1] for code in _CONTROLS}
"""What terminals, editors and log readers take for more than a character, and how it is written instead."""


def printable(text: str, at_most: int) -> str:
    """``text`` with its control characters escaped; past ``at_most`` characters it is cut, and ends in dots."""
    return (text if len(text) <= at_most else text[:at_most] + "...").translate(CONTROL_ESCAPES)
