"""``--cache-config``, and its older name."""

import pytest

from ortolan.core.cache_config import parse_cache_config
from ortolan.errors import StartupError


@pytest.mark.parametrize(
    ("texts", "byte_size", "expected"),
    [
        ([], 0, 0),
        (["local,size=1048576"], 0, 1 << 20),
        ([" local , size = 7 "], 0, 7),
        (["local,size=1", "local,size=2"], 0, 2),
        ([], 99, 99),
    ],
)
def test_the_size_of_the_cache(texts: list[str], byte_size: int, expected: int) -> None:
    assert parse_cache_config(texts, byte_size) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("local", "expected local,size=BYTES, got 'local'"),
        ("local,size", "expected local,size=BYTES"),
        ("size=1", "expected local,size=BYTES"),
        ("redis,host=there", "the cache 'redis' is not available"),
        ("local,sise=1", "unknown setting 'sise' of local"),
        ("local,size=0", "1 or more, got '0'"),
        ("local,size=-1", "got '-1'"),
        ("local,size=1e9", "got '1e9'"),
        ("local,size=1048576000000000000000", "must be a number of bytes"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(StartupError) as refused:
        parse_cache_config([text])
    assert str(refused.value).startswith("--cache-config: ")
    assert said in str(refused.value)


def test_only_one_of_the_flags_is_given() -> None:
    with pytest.raises(StartupError, match="exclude each other"):
        parse_cache_config(["local,size=1"], 1)
