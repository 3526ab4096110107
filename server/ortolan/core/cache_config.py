"""``--cache-config``: its texts, ``CACHE,SETTING=VALUE`` as in Triton, as the size of the response cache. Pure."""

from collections.abc import Iterable

from ortolan.errors import StartupError

FLAG = "--cache-config"
OLD_FLAG = "--response-cache-byte-size"
LOCAL = "local"
_SIZE = "size"


def parse_cache_config(texts: Iterable[str], byte_size: int = 0) -> int:
    """The bytes that the response cache may hold; 0 for no cache. ``byte_size`` is what the older flag says.

    Of texts that say the same the last one holds. Raises StartupError for what is not of the form or not known, and
    where both flags are given.
    """
    sizes = [_size(text) for text in texts]
    if sizes and byte_size:
        raise StartupError(f"{FLAG} and {OLD_FLAG}, its older name, exclude each other: leave the latter out")
    return sizes[-1] if sizes else byte_size


def _size(text: str) -> int:
    name, comma, setting = (part.strip() for part in text.partition(","))
    key, equals, value = (part.strip() for part in setting.partition("="))
    if not (name and comma and key and equals and value):
        raise StartupError(f"{FLAG}: expected {LOCAL},{_SIZE}=BYTES, got '{text}'")
    if name != LOCAL:
        raise StartupError(f"{FLAG}: the cache '{name}' is not available; there is {LOCAL}, in the server's memory")
    if key != _SIZE:
        raise StartupError(f"{FLAG}: unknown setting '{key}' of {LOCAL}; there is {_SIZE}")
    if not (value.isascii() and value.isdecimal() and len(value) <= 18 and int(value) > 0):
        raise StartupError(f"{FLAG}: {_SIZE} must be a number of bytes, 1 or more, got '{value}'")
    return int(value)
