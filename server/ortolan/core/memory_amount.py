"""Amounts of memory as operators write them and as they are shown. Pure."""

import re

_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|[kmgt]?i?b?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def amount_of(text: str, whole_bytes: int) -> int:
    """The bytes that ``text`` says: a number with B, KB, MB, GB or TB (of 1000) or KiB, MiB, GiB or TiB (of 1024), with
    or without the B, or a percentage of ``whole_bytes``. Raises ValueError saying what was expected.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError("expects bytes such as 8GiB, 500MB or 1073741824, or a percentage such as 60%")
    number, unit = float(found["number"]), found["unit"].lower()
    if unit == "%":
        if not 0 < number <= 100:
            raise ValueError("expects a percentage above 0, and not above 100")
        return int(whole_bytes * number / 100)
    size_bytes = int(number * _factor(unit))
    if size_bytes < 1:
        raise ValueError("expects at least 1 byte; without a budget, leave it out")
    return size_bytes


def shown(size_bytes: int) -> str:
    """``size_bytes`` for people: ``160.1 MiB``."""
    if size_bytes >= 1 << 30:
        return f"{size_bytes / (1 << 30):.2f} GiB"
    return f"{size_bytes / (1 << 20):.1f} MiB"


def _factor(unit: str) -> int:
    letters = unit.removesuffix("b")
    base = 1024 if letters.endswith("i") else 1000
    power = _POWERS.get(letters.removesuffix("i"))
    if power is None or letters == "i":
        raise ValueError("expects a unit such as GiB or GB")
    return int(base**power)
