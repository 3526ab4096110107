"""Small changes to what is valid: JSON values and protobuf messages, altered as such and not as bytes.

libFuzzer alters bytes, which seldom leaves a document that can still be read. Half of the inputs come from here.
"""

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from ortolan.repository.config_syntax import is_map, is_repeated

# Where readers go wrong: the ends of ranges, other types, nothing, too much.
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    255,
    256,
    32767,
    -32768,
    65504,
    65536,
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64,
)
FLOATS = (0.5, -0.0, 1e-45, 3.5e38, 1e308, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", "x", "y", "FP32", "BYTES", "BF16", "a" * 300, "\0", "é", "\U0001f600", "triton_x", "..", "YQ==", "1", "-1")
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: range(-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_INT64: range(-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT32: range(2**32),
    FieldDescriptor.CPPTYPE_UINT64: range(2**64),
}
JSON_VALUES = (None, True, False, *NUMBERS, *FLOATS, *TEXTS, [], {}, [[]], [0] * 40, {"b64": "YQ=="}, {"b64": "?"})


def altered_json(text: bytes, random: Random) -> bytes | None:
    """The JSON ``text`` with one to three values altered; None when it is none, or a single value."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for _ in range(random.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return None
        _alter_place(*random.choice(places), random.choice(places), random)
    return json.dumps(document).encode()


def altered_message(message: Any, random: Random) -> Any:
    """A copy of the protobuf ``message`` with one to three fields altered, however deep."""
    changed = copy.deepcopy(message)
    for _ in range(random.randint(1, 3)):
        _alter_field(random.choice(list(_messages(changed))), random)
    return changed


def filled(message: Any, depth: int = 4) -> Any:
    """The message itself, each of its fields set to something, to the ``depth`` given."""
    for field in message.DESCRIPTOR.fields:
        if depth or field.message_type is None:
            _set(message, field, Random(0), depth)
    return message


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _alter_place(container: Any, key: Any, other: tuple[Any, Any], random: Random) -> None:
    actions: list[Callable[[], object]] = [
        lambda: container.__setitem__(key, copy.deepcopy(random.choice(JSON_VALUES))),
        lambda: container.__setitem__(key, copy.deepcopy(other[0][other[1]])),
        lambda: container.__setitem__(key, [container[key]]),
        lambda: container.pop(key),
    ]
    if isinstance(container, list):
        actions.append(lambda: container.append(copy.deepcopy(container[key])))
    else:
        actions.append(lambda: container.setdefault(random.choice(TEXTS), container[key]))
    random.choice(actions)()


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if is_map(field):
            value = value.values() if field.message_type.fields_by_name["value"].message_type else ()
        elif not is_repeated(field):
            value = [value]
        for inner in value:
            yield from _messages(inner)


def _alter_field(message: Any, random: Random) -> None:
    present = [field for field, _ in message.ListFields()]
    if not message.DESCRIPTOR.fields:
        return
    field = random.choice(present if present and random.random() < 0.7 else message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    if random.random() < 0.2:
        message.ClearField(field.name)
    elif is_repeated(field) and not is_map(field) and value and random.random() < 0.5:
        message.MergeFrom(copy.deepcopy(message)) if random.random() < 0.2 else value.pop(random.randrange(len(value)))
    else:
        _set(message, field, random, 1)


def _set(message: Any, field: Any, random: Random, depth: int) -> None:
    value = getattr(message, field.name)
    if is_map(field):
        key, inner = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        if inner.message_type is None:
            value[_scalar(key, random)] = _scalar(inner, random)
        else:
            filled(value[_scalar(key, random)], depth - 1)
    elif field.message_type is not None:
        filled(value.add() if is_repeated(field) else value, depth - 1)
        if not is_repeated(field):
            value.SetInParent()
    elif is_repeated(field):
        value.append(_scalar(field, random))
    else:
        setattr(message, field.name, _scalar(field, random))


def _scalar(field: Any, random: Random) -> object:
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    if field.cpp_type in _INTEGERS:
        return random.choice([number for number in NUMBERS if number in _INTEGERS[field.cpp_type]])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice(FLOATS)
    text = random.choice(TEXTS)
    return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
