"""``--rate-limit-resource``: its texts, ``NAME:COUNT[:DEVICE]`` as in Triton, as what there is of each resource."""

from collections.abc import Iterable
from typing import Literal

from ortolan.errors import StartupError
from ortolan.execution.rate_limiter import RateLimiter
from ortolan.execution.resource_turns import DeclaredResource

FLAG = "--rate-limit-resource"
_DIGITS = 9

RateLimitMode = Literal["off", "execution_count"]


def rate_limiter_for(mode: RateLimitMode, texts: Iterable[str]) -> RateLimiter | None:
    """The limiter of a server; None where instances run whenever there is work.

    Raises StartupError for a text that is not of the form, even where the limiter is off.
    """
    declared = parse_resources(texts)
    return None if mode == "off" else RateLimiter(declared)


def parse_resources(texts: Iterable[str]) -> tuple[DeclaredResource, ...]:
    """What ``texts`` declare. Raises StartupError for what is not of the form."""
    return tuple(_resource(text) for text in texts)


def _resource(text: str) -> DeclaredResource:
    name, *numbers = (part.strip() for part in text.split(":"))
    if not name or not 1 <= len(numbers) <= 2 or not all(_is_number(number) for number in numbers):
        raise StartupError(f"{FLAG}: expected NAME:COUNT or NAME:COUNT:DEVICE, two numbers of 0 or more, got '{text}'")
    count, *device = (int(number) for number in numbers)
    return DeclaredResource(name, count, device[0] if device else None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS
