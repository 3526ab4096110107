"""Encrypted model files: AES-256-GCM in chunks, none of which can be altered, moved, left out or cut off unnoticed.

    8 bytes    ``ORTOLAN`` and 1, the number of this format; no ONNX file begins like that
    8 bytes    which key it is: HKDF-SHA256 of the key with the info ``ortolan model key id``
    32 bytes   random; with the 16 bytes before them as info, the salt by which HKDF-SHA256 makes this file's own key
    chunks     1 MiB of the model each, the last one what is left, and 16 bytes more by which its integrity is known

The nonce of a chunk is its number in 11 bytes, big-endian, and a byte that is 1 for the last chunk, else 0: the
construction that is known as STREAM. Every file has a key of its own, so that no nonce is ever used twice.
"""

import base64
import binascii
import io
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from ortolan.errors import StartupError

KEY_BYTES = 32

_MAGIC = b"ORTOLAN\x01"
_ID_BYTES = 8
_SALT_BYTES = 32
_CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
_ID_INFO = b"ortolan model key id"
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_LARGEST_KEY_FILE_BYTES = 1 << 16
_NO_LIBRARY = 'the package cryptography is not installed: pip install "ortolan[encryption]"'


class NotDecryptable(Exception):
    """Why a file cannot be decrypted, as the end of a sentence that begins with its name. Nothing of a key is in it."""


class ModelKeys:
    """The keys of a server, of which each file's header says the right one."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """``keys`` are 32 bytes each."""
        self._by_id = {_id_of(key): key for key in keys}

    def __repr__(self) -> str:
        return f"ModelKeys({len(self._by_id)} keys)"

    def find(self, key_id: bytes) -> bytes:
        """The key of this id. Raises NotDecryptable without it."""
        key = self._by_id.get(key_id)
        if key is None:
            have = ", ".join(each.hex() for each in self._by_id) or "none"
            raise NotDecryptable(
                f"is encrypted with the key {key_id.hex()}, which the server does not have: it has {have}. Give it "
                "that key with --model-key-file or ORTOLAN_MODEL_KEY"
            )
        return key


def parse_keys(text: str) -> list[bytes]:
    """The keys in ``text``, one a line, as 64 hexadecimal digits or as base64; ``#`` begins a comment.

    Raises ValueError, which shows nothing of the text.
    """
    keys: list[bytes] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            keys.append(_key(line, number))
    if not keys:
        raise ValueError("there is no key in it")
    return keys


def read_key_file(path: Path) -> list[bytes]:
    """The keys in the file at ``path``. Raises StartupError naming the file, and showing nothing of what is in it."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_KEY_FILE_BYTES)
        return parse_keys(content.decode("ascii"))
    except OSError as error:
        raise StartupError(f"the key file '{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupError(f"the key file '{path}' is no text with a key on each line") from None
    except ValueError as error:
        raise StartupError(f"the key file '{path}' cannot be used: {error}") from None


def require_library() -> None:
    """Raises StartupError when what decrypts is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise StartupError(f"model keys are given, but {_NO_LIBRARY}") from None


def is_encrypted(file: BinaryIO) -> bool:
    """Whether ``file``, which is at its beginning and is left there, has this format."""
    start = file.read(len(_MAGIC))
    file.seek(0)
    return start == _MAGIC


def decrypted(file: BinaryIO, keys: ModelKeys, watch: Callable[[bytes], None]) -> bytes:
    """What is encrypted in ``file``; ``watch`` is given the file's own bytes, in their order.

    Raises NotDecryptable when the key is not there, or the file is not what was written with it.
    """
    header = _read(file, len(_MAGIC) + _ID_BYTES + _SALT_BYTES, watch)
    cipher = _cipher(keys.find(header[len(_MAGIC) : len(_MAGIC) + _ID_BYTES]), header)
    from cryptography.exceptions import InvalidTag

    # It grows with what is known to be right: the size of the file is only what it says of itself.
    content = io.BytesIO()
    number, chunk = 0, _read(file, _CHUNK_BYTES + _TAG_BYTES, watch)
    while chunk:
        following = _read(file, _CHUNK_BYTES + _TAG_BYTES, watch)
        try:
            content.write(cipher.decrypt(_nonce(number, not following), chunk, None))
        except (InvalidTag, ValueError):
            break
        if not following:
            return content.getvalue()
        number, chunk = number + 1, following
    raise NotDecryptable("is encrypted, but damaged, truncated or altered: its chunks are not what was written")


def encrypt(source: BinaryIO, target: BinaryIO, key: bytes) -> None:
    """Write what is left of ``source`` to ``target``, encrypted."""
    header = _MAGIC + _id_of(key) + secrets.token_bytes(_SALT_BYTES)
    target.write(header)
    cipher = _cipher(key, header)
    number, chunk = 0, source.read(_CHUNK_BYTES)
    while True:
        following = source.read(_CHUNK_BYTES)
        target.write(cipher.encrypt(_nonce(number, not following), chunk, None))
        if not following:
            return
        number, chunk = number + 1, following


class _Cipher:
    """What is used of the library's AES-GCM."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.encrypt = AESGCM(key).encrypt
        self.decrypt = AESGCM(key).decrypt


def _cipher(key: bytes, header: bytes) -> _Cipher:
    """With the file's own key: everything in the header goes into it, so that an altered header is a wrong key."""
    return _Cipher(_derived(key, KEY_BYTES, header[:-_SALT_BYTES], header[-_SALT_BYTES:]))


def _id_of(key: bytes) -> bytes:
    return _derived(key, _ID_BYTES, _ID_INFO, None)


def _derived(key: bytes, length: int, info: bytes, salt: bytes | None) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise StartupError(_NO_LIBRARY) from None
    return HKDF(SHA256(), length, salt, info).derive(key)


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _read(file: BinaryIO, size_bytes: int, watch: Callable[[bytes], None]) -> bytes:
    try:
        chunk = file.read(size_bytes)
    except OSError as error:
        raise NotDecryptable(f"cannot be read: {error.strerror}") from error
    watch(chunk)
    return chunk


def _key(line: str, number: int) -> bytes:
    if _HEX.fullmatch(line):
        return bytes.fromhex(line)
    try:
        key = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"line {number} is no key: expected 32 bytes as 64 hexadecimal digits or as base64")
    return key
