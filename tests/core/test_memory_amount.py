import pytest

from ortolan.core.memory_amount import amount_of, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1073741824", 1 << 30),
        ("8GiB", 8 << 30),
        ("8Gi", 8 << 30),
        ("8gib", 8 << 30),
        ("1.5 GiB", 3 << 29),
        ("512KiB", 512 << 10),
        ("2TiB", 2 << 40),
        ("8GB", 8_000_000_000),
        ("8g", 8_000_000_000),
        ("100MB", 100_000_000),
        ("7B", 7),
        (" 50% ", 500),
        ("12.5%", 125),
        ("100%", 1000),
    ],
)
def test_amounts_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert amount_of(text, 1000) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "0", "0.2", "0%", "101%", "5 PiB", "5i", "1e3", "1,5GiB", "GiB", "%", "nan"]
)
def test_others_are_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expects"):
        amount_of(text, 1000)


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(0, "0.0 MiB"), (1 << 20, "1.0 MiB"), (160 << 20, "160.0 MiB"), (3 << 29, "1.50 GiB")]
)
def test_sizes_are_shown_in_units_that_people_read(size_bytes: int, expected: str) -> None:
    assert shown(size_bytes) == expected
