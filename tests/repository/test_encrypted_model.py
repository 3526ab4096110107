"""Encrypted model files: what was written comes back, and nothing that was altered does."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import StartupError
from ortolan.repository.encrypted_model import (
    ModelKeys,
    NotDecryptable,
    decrypted,
    encrypt,
    is_encrypted,
    parse_keys,
    read_key_file,
)

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
CHUNK, TAG, HEADER = 1 << 20, 16, 48


def sealed(content: bytes, key: bytes = KEY) -> bytes:
    target = io.BytesIO()
    encrypt(io.BytesIO(content), target, key)
    return target.getvalue()


def opened(file: bytes, *keys: bytes) -> bytes:
    return decrypted(io.BytesIO(file), ModelKeys(keys or (KEY,)), lambda _: None)


@given(st.binary(max_size=2000))
def test_what_is_encrypted_comes_back(content: bytes) -> None:
    assert opened(sealed(content)) == content


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7])
def test_so_it_does_where_chunks_end(size: int) -> None:
    content = os.urandom(size)
    file = sealed(content)
    assert len(file) == HEADER + size + TAG * max(1, -(-size // CHUNK))
    assert opened(file) == content


def test_the_same_content_is_never_encrypted_alike() -> None:
    assert sealed(b"model") != sealed(b"model")


@given(st.data())
def test_no_altered_byte_goes_unnoticed(data: st.DataObject) -> None:
    file = bytearray(sealed(b"the weights of a model"))
    at = data.draw(st.integers(8, len(file) - 1))
    file[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(NotDecryptable):
        opened(bytes(file))


def _parts(content: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    file = sealed(content)
    size = CHUNK + TAG
    return file[:HEADER], *(file[HEADER + n * size : HEADER + (n + 1) * size] for n in range(3))  # type: ignore[return-value]


HEAD, FIRST, SECOND, THIRD = _parts(os.urandom(2 * CHUNK + 5))


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HEAD[:20], id="half a head"),
        pytest.param(HEAD, id="no chunk"),
        pytest.param(HEAD + FIRST, id="one chunk"),
        pytest.param(HEAD + FIRST + SECOND, id="two chunks"),
        pytest.param(HEAD + FIRST + SECOND + THIRD[:-1], id="a byte less"),
        pytest.param(HEAD + FIRST + SECOND + THIRD + b"\0", id="a byte more"),
        pytest.param(HEAD + FIRST + SECOND + THIRD + THIRD, id="last twice"),
        pytest.param(HEAD + SECOND + FIRST + THIRD, id="moved"),
        pytest.param(HEAD + FIRST + FIRST + THIRD, id="first twice"),
        pytest.param(HEAD + FIRST + THIRD, id="none between"),
        pytest.param(HEAD + THIRD, id="last alone"),
        pytest.param(HEAD[:-1] + bytes([HEAD[-1] ^ 1]) + FIRST + SECOND + THIRD, id="altered head"),
        pytest.param(_parts(os.urandom(2 * CHUNK + 5))[0] + FIRST + SECOND + THIRD, id="another's head"),
    ],
)
def test_nothing_can_be_cut_off_added_moved_or_taken_from_another_file(file: bytes) -> None:
    with pytest.raises(NotDecryptable):
        opened(file)


def test_a_file_that_claims_to_be_large_takes_no_memory(tmp_path: Path) -> None:
    """A sparse file has any size for nothing."""
    path = tmp_path / "model.onnx"
    path.write_bytes(HEAD + FIRST)
    os.truncate(path, 1 << 40)
    with path.open("rb") as file, pytest.raises(NotDecryptable, match="damaged, truncated or altered"):
        decrypted(file, ModelKeys([KEY]), lambda _: None)
    assert path.stat().st_size == 1 << 40


def test_the_right_one_of_several_keys_is_taken() -> None:
    assert opened(sealed(b"old", KEY), OTHER, KEY) == b"old"
    assert opened(sealed(b"new", OTHER), OTHER, KEY) == b"new"


def test_a_missing_key_is_named_without_any_key_being_shown() -> None:
    with pytest.raises(NotDecryptable) as refusal:
        opened(sealed(b"x"), OTHER)
    text = f"{refusal.value}{ModelKeys([KEY])!r}"
    assert "which the server does not have" in text
    for key in (KEY, OTHER):
        assert key.hex()[:8] not in text


def test_only_files_of_the_format_are_taken_for_encrypted() -> None:
    assert is_encrypted(io.BytesIO(sealed(b"")))
    assert not is_encrypted(io.BytesIO(b"\x08\x08ORTOLAN\x01"))
    assert not is_encrypted(io.BytesIO(b"ORT"))


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        f"# of June\n\n  {KEY.hex().upper()}\r\n",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ],
)
def test_keys_are_hexadecimal_or_base64(text: str) -> None:
    assert parse_keys(text) == [KEY]


@pytest.mark.parametrize("text", ["", "#", "secret", KEY.hex()[:-1], "c2hvcnQ=", f"{KEY.hex()}\nsecret"])
def test_what_is_no_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"no key") as refusal:
        parse_keys(text)
    assert "secret" not in str(refusal.value)


def test_a_key_file_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read"):
        read_key_file(tmp_path / "none")
    (tmp_path / "raw").write_bytes(b"\xff" * 32)
    with pytest.raises(StartupError, match="no text with a key on each line"):
        read_key_file(tmp_path / "raw")
