"""The members of a JSON object, each of the type it must have, and the words for those that are not."""

import json
from collections.abc import Mapping
from typing import Any

from ortolan.errors import InvalidArgument

_SHOWN_CHARACTERS = 40
_UINT64_MAX = 2**64 - 1
_NOTHING: Mapping[str, Any] = {}


def text_member(fields: Mapping[str, Any], key: str, owner: str) -> str:
    """The string under ``key``, which must be there. ``owner`` is what the object is called in messages."""
    value = fields.get(key, fields)
    if isinstance(value, str):
        return value
    if value is fields:
        raise InvalidArgument(f"{owner} has no '{key}'")
    raise wrong_type(f"'{key}' of {owner}", "a string", value)


def boolean_member(fields: Mapping[str, Any], key: str, owner: str) -> bool:
    """The boolean under ``key``; False where there is none."""
    value = fields.get(key, False)
    if isinstance(value, bool):
        return value
    raise wrong_type(f"'{key}' of {owner}", "true or false", value)


def whole_number_member(fields: Mapping[str, Any], key: str, owner: str) -> int:
    """The integer under ``key``, which must be there, be 0 or more and fit into 64 bits."""
    value = fields.get(key, fields)
    # A bool is an int to isinstance.
    if type(value) is int and 0 <= value <= _UINT64_MAX:
        return value
    if value is fields:
        raise InvalidArgument(f"{owner} has no '{key}'")
    raise wrong_type(f"'{key}' of {owner}", f"an integer from 0 to {_UINT64_MAX}", value)


def object_member(fields: Mapping[str, Any], key: str, owner: str) -> Mapping[str, Any]:
    """The object under ``key``; an empty one where there is none."""
    value = fields.get(key, _NOTHING)
    if isinstance(value, dict):
        return value
    raise wrong_type(f"'{key}' of {owner}", "an object", value)


def objects_member(fields: Mapping[str, Any], key: str, owner: str, at_most: int) -> list[Mapping[str, Any]]:
    """The array of at most ``at_most`` objects under ``key``; an empty one where there is none."""
    items = fields.get(key, [])
    if not isinstance(items, list):
        raise wrong_type(f"'{key}' of {owner}", "an array of objects", items)
    if len(items) > at_most:
        raise InvalidArgument(f"{owner} lists {len(items)} {key}, at most {at_most} are accepted")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise wrong_type(f"{key}[{index}]", "an object", item)
    return items


def wrong_type(field: str, expected: str, value: object) -> InvalidArgument:
    """The error for a ``field`` whose JSON ``value`` is not what was ``expected``."""
    return InvalidArgument(f"{field} must be {expected}, got {described(value)}")


def described(value: object) -> str:
    """A JSON value in a few words, for a message: never longer than one short line."""
    match value:
        case None | bool():
            return json.dumps(value)
        case int() | float():
            return f"the number {value!r}"
        case str():
            return f"the string {shown(value)}"
        case list():
            return f"an array of {len(value)}"
    return "an object"


def shown(text: str) -> str:
    """``text`` in quotes, in printable ASCII, cut to a length that fits in a message."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")
