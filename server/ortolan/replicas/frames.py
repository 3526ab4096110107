"""What the supervisor and its replicas send each other, as bytes: JSON, with any bytes objects behind it. Pure.

A frame is a head, the JSON and the contents of the bytes objects. In the JSON each of these is an object with one
member, whose name is drawn anew for every frame, because clients choose what else is in there.
"""

import secrets
import struct
from collections.abc import Sequence
from typing import Any

import orjson

_HEAD = struct.Struct("!II")
HEAD_BYTES = _HEAD.size
_SIZE = struct.Struct("!Q")


def frame_of(message: object) -> list[bytes]:
    """``message``, of JSON's types, bytes and dataclasses, as pieces to be sent one behind the other."""
    contents: list[bytes] = []
    name = secrets.token_hex(8)

    def placed(value: object) -> dict[str, int]:
        if not isinstance(value, bytes):
            raise TypeError(f"a {type(value).__name__} cannot be sent to another process")
        contents.append(value)
        return {name: len(contents) - 1}

    text = orjson.dumps([name, message], default=placed, option=orjson.OPT_NON_STR_KEYS)
    sizes = b"".join(_SIZE.pack(len(content)) for content in contents)
    return [_HEAD.pack(len(text), len(contents)), sizes, text, *contents]


def sizes_bytes(head: bytes) -> int:
    """How many bytes of sizes follow the head."""
    return _SIZE.size * int(_HEAD.unpack(head)[1])


def lengths(head: bytes, sizes: bytes) -> list[int]:
    """The lengths of what follows: the JSON, and the content of each bytes object."""
    return [int(_HEAD.unpack(head)[0]), *(int(size) for (size,) in _SIZE.iter_unpack(sizes))]


def message_of(text: bytes, contents: Sequence[bytes]) -> Any:
    """What ``frame_of`` was given; tuples are lists, and dataclasses objects by name."""
    name, message = orjson.loads(text)
    return _filled(message, name, contents) if contents else message


def _filled(value: Any, name: str, contents: Sequence[bytes]) -> Any:
    if isinstance(value, list):
        return [_filled(each, name, contents) for each in value]
    if isinstance(value, dict):
        if name in value:
            return contents[value[name]]
        return {key: _filled(each, name, contents) for key, each in value.items()}
    return value
