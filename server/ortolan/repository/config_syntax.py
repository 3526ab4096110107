"""The text or JSON of a model configuration → the ``ModelConfig`` message; what is refused is named.

Text is protobuf's text format, and its errors name the line. JSON is protobuf's JSON, and its errors name the field's
path. An unknown word is answered with the nearest known one.
"""

import difflib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from google.protobuf import json_format, text_format

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.protocol.protobuf_messages import POOL, ModelConfig

_UNKNOWN_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "([^"]*)"')
_ENUM_IN_TEXT = re.compile(r'Enum type "([\w.]+)" has no value named ([\w.]*\w)')
_ENUM_IN_JSON = re.compile(r"Invalid enum value (\S+) for enum type ([\w.]+)")
_TWICE = re.compile(r'Message type "[\w.]+" should not have multiple "(\w+)" fields')
_EXCLUSIVE = re.compile(r'Field "(\w+)" is specified along with field "(\w+)"')
_WHERE = re.compile(r"^\d+(:\d+)? : ")
_JSON_PATH = re.compile(r" at \"?ModelConfig\.([^\s\"]+?)\"?\.*$")
_QUOTED_LINE = re.compile(r"^'.*?': (?=[A-Z])", re.DOTALL)
# The text up to a scalar value, which may stand in a list: its field's name is the last word before a colon.
_FIELD_BEFORE = re.compile(r"([A-Za-z_]\w*)\s*:\s*(?:\[[^\[\]{}]*)?$")
# Longer words are no typing errors, and comparing them with the known ones takes long.
_LONGEST_COMPARED = 64
_LONGEST_SHOWN = 200
# So much of a text is looked at for the name of the field that a wrong value belongs to.
_LONGEST_BEFORE = 2000
# What others call the datatypes: frameworks, programming languages and ONNX itself.
_OTHER_DATATYPE_NAMES = {
    "FP16": "HALF FLOAT16",
    "FP32": "FLOAT FLOAT32 SINGLE",
    "FP64": "DOUBLE FLOAT64",
    "BF16": "BFLOAT16 BFLOAT",
    "INT8": "CHAR SCHAR SBYTE",
    "INT16": "SHORT",
    "INT32": "INT INTEGER",
    "INT64": "LONG LONGLONG",
    "UINT8": "UCHAR BYTE",
    "UINT16": "USHORT",
    "UINT32": "UINT",
    "UINT64": "ULONG ULONGLONG",
    "BOOL": "BOOLEAN",
    "BYTES": "STR TEXT UTF8 OBJECT",
}
_DATATYPE_BY_OTHER_NAME = {
    other: datatypes.BY_NAME[name] for name, others in _OTHER_DATATYPE_NAMES.items() for other in others.split()
}


def message_from_text(text: str, model_name: str) -> Any:
    """The message that a ``config.pbtxt`` spells. Raises InvalidArgument naming the line and what is wrong there."""
    message = ModelConfig()
    try:
        text_format.Parse(text.removeprefix("\ufeff"), message)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        where = f" at line {line}" if line else ""
        field = _field_before(text, line, column) if line and column else ""
        raise _refused(model_name, _explained(str(error), where, field)) from error
    except RecursionError as error:
        raise _refused(model_name, "it is nested too deeply") from error
    except ValueError as error:  # Such as a number with thousands of digits, which Python declines to read.
        raise _refused(model_name, _shortened(str(error))) from error
    return message


def message_from_json(text: str, model_name: str) -> Any:
    """The message that a JSON object spells. Raises InvalidArgument naming the field's path and what is wrong."""
    message = ModelConfig()
    try:
        document = json.loads(text, object_pairs_hook=_object_without_duplicates)
        _check_structure(document, message.DESCRIPTOR, "")
        json_format.ParseDict(document, message)
    except _StructureError as error:
        raise _refused(model_name, str(error)) from error
    except json.JSONDecodeError as error:
        raise _refused(model_name, f"{error.msg.removesuffix(' at')} at line {error.lineno}") from error
    except json_format.ParseError as error:
        problem, path = _without_json_path(str(error))
        raise _refused(model_name, _explained(problem, path)) from error
    except RecursionError as error:
        raise _refused(model_name, "it is nested too deeply") from error
    except ValueError as error:
        raise _refused(model_name, _shortened(str(error))) from error
    return message


def suggestion(word: str, known: Collection[str]) -> str:
    """What to write instead of ``word``, as the end of a sentence: the nearest of ``known``, or all of them."""
    near = difflib.get_close_matches(word[:_LONGEST_COMPARED], sorted(known), 1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known are {', '.join(sorted(known))}"


def is_repeated(field: Any) -> bool:
    """Whether a field of a message is a list or a map."""
    # protobuf before 6 has no ``is_repeated``, and later ones warn of ``label``.
    known = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if known is None else known)


def is_map(field: Any) -> bool:
    """Whether a field of a message is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


class _StructureError(Exception):
    """JSON that does not have the message's structure."""


def _refused(model_name: str, reason: str) -> InvalidArgument:
    # JSON can spell lone surrogates, which no answer could carry.
    sendable = reason.encode(errors="backslashreplace").decode()
    return InvalidArgument(f"the configuration of model '{model_name}' cannot be read: {sendable}")


def _field_before(text: str, line: int, column: int) -> str:
    """The name of the field whose value stands at ``line`` and ``column``, both from 1; "" where none does."""
    lines = text.removeprefix("\ufeff").split("\n")
    before = "\n".join((*lines[: line - 1], lines[line - 1][: column - 1]))
    match = _FIELD_BEFORE.search(before[-_LONGEST_BEFORE:])
    return match.group(1) if match else ""


def _explained(problem: str, where: str, field: str = "") -> str:
    """protobuf's message in our words: with the nearest known word where a word was wrong, or the ``field``'s name."""
    try:
        explained = _wrong_word(problem, where)
    except KeyError:  # The message quotes the file, which may say anything, such as the name of no type of ours.
        explained = ""
    plain = _QUOTED_LINE.sub("", _WHERE.sub("", problem))
    return explained or _shortened(plain.rstrip(" .")) + where + (f", in {_shortened(field)}" if field else "")


def _wrong_word(problem: str, where: str) -> str:
    if match := _UNKNOWN_FIELD.search(problem):
        message_type, word = match.groups()
        fields = POOL.FindMessageTypeByName(message_type).fields_by_name
        return f'unknown field "{_shortened(word)}"{where}{suggestion(word, fields)}'
    if match := _ENUM_IN_TEXT.search(problem):
        return _unknown_enum_value(match.group(1), match.group(2), where)
    if match := _ENUM_IN_JSON.search(problem):
        return _unknown_enum_value(match.group(2), match.group(1), where)
    if match := _TWICE.search(problem):
        return f'the field "{match.group(1)}" appears twice{where}'
    if match := _EXCLUSIVE.search(problem):
        return f'the fields "{match.group(2)}" and "{match.group(1)}" exclude each other{where}'
    return ""


def _unknown_enum_value(enum_type: str, word: str, where: str) -> str:
    known = POOL.FindEnumTypeByName(enum_type).values_by_name
    datatype = _datatype_called(word)
    meant = f'; did you mean "{datatype.config_name}"?' if datatype and datatype.config_name in known else ""
    # People leave out the prefix that all words of most enums share, such as KIND_.
    prefix = next(iter(known)).partition("_")[0] + "_"
    shared = all(name.startswith(prefix) for name in known) and not word.startswith(prefix)
    whole = prefix + word if shared else word
    return f'unknown value "{_shortened(word)}"{where}{meant or suggestion(whole, known)}'


def _datatype_called(word: str) -> datatypes.Datatype | None:
    """The datatype that is meant by a name that is not the configuration's own; None for what is no such name."""
    name = word.upper().removeprefix("TYPE_")
    return (
        datatypes.BY_CONFIG_NAME.get(f"TYPE_{name}") or datatypes.BY_NAME.get(name) or _DATATYPE_BY_OTHER_NAME.get(name)
    )


def _without_json_path(problem: str) -> tuple[str, str]:
    """json_format's message and the place that it ends with, as ``" at input[0].data_type"``, or ""."""
    match = _JSON_PATH.search(problem)
    return (problem[: match.start()], f" at {match.group(1)}") if match else (problem, "")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_SHOWN else line[:_LONGEST_SHOWN] + "…"


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content: dict[str, object] = {}
    for key, value in pairs:
        if key in content:
            raise _StructureError(f'the key "{_shortened(key)}" appears twice')
        content[key] = value
    return content


def _check_structure(value: object, descriptor: Any, path: str) -> None:
    """Refuse unknown names, and objects and lists in the wrong places, which json_format reports without a place."""
    if not isinstance(value, dict):
        raise _StructureError(f"expected an object {_at(path)}, got {_kind(value)}")
    by_name = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    seen: set[str] = set()
    for key, content in value.items():
        if key not in by_name:
            raise _StructureError(
                f'unknown field "{_shortened(key)}" {_at(path)}{suggestion(key, descriptor.fields_by_name)}'
            )
        if by_name[key].name in seen:
            raise _StructureError(f'the field "{by_name[key].name}" appears twice {_at(path)}')
        seen.add(by_name[key].name)
        if content is not None:
            _check_field(content, by_name[key], f"{path}.{key}" if path else key)


def _check_field(value: object, field: Any, path: str) -> None:
    if is_map(field):
        _check_map(value, field.message_type.fields_by_name["value"], path)
    elif is_repeated(field):
        if not isinstance(value, list):
            raise _StructureError(f"expected a list at {path}, got {_kind(value)}")
        for index, element in enumerate(value):
            _check_single(element, field, f"{path}[{index}]")
    else:
        _check_single(value, field, path)


def _check_map(value: object, field: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise _StructureError(f"expected an object at {path}, got {_kind(value)}")
    for key, element in value.items():
        _check_single(element, field, f"{path}[{_shortened(key)}]")


def _check_single(value: object, field: Any, path: str) -> None:
    if field.message_type is not None:
        _check_structure(value, field.message_type, path)
    elif isinstance(value, (dict, list)):
        raise _StructureError(f"expected a single value at {path}, got {_kind(value)}")
    elif field.enum_type is not None and isinstance(value, (bool, float)):
        raise _StructureError(f"expected one of {', '.join(field.enum_type.values_by_name)} at {path}, got {value}")


def _at(path: str) -> str:
    return f"at {path}" if path else "at the top"


def _kind(value: object) -> str:
    names: Mapping[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
