"""No field of Triton's model configuration is dropped in silence: each is honoured, warned of or refused, by name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from config_fields import Fate, Row, rows

from ortolan.errors import InvalidArgument
from ortolan.execution.device_notes import refuse_other_models
from ortolan.execution.devices import Placement
from ortolan.protocol.protobuf_messages import ModelConfig as Message
from ortolan.repository.config_file import parse_text
from ortolan.repository.config_rendering import to_message, to_text
from ortolan.repository.config_syntax import is_map, is_repeated, message_from_text
from ortolan.repository.model_config import InstanceKind, ModelConfig

ROWS = tuple(rows())
ON_GPU = (Placement("m_0_gpu0", InstanceKind.GPU, 0, ()),)
DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def leaves(descriptor: Any, above: str = "") -> Iterator[str]:
    """The path of every field that holds a value, or may be empty and says something by being there."""
    for field in descriptor.fields:
        path = f"{above}{field.name}"
        inner = field.message_type
        if inner is not None and is_map(field):
            inner = inner.fields_by_name["value"].message_type
        if inner is None or not inner.fields:
            yield path
        else:
            yield from leaves(inner, f"{path}.")


def configured(text: str) -> ModelConfig:
    """The configuration, if nothing of it is refused, also where the model is on a GPU."""
    config = parse_text(text, "m")
    refuse_other_models(config, ON_GPU)
    return config


def named(row: Row) -> str:
    return row.path


def test_every_field_has_one_row() -> None:
    assert sorted(row.path for row in ROWS) == sorted(leaves(Message.DESCRIPTOR))


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_what_a_row_says_of_its_field_is_so(row: Row) -> None:
    assert has(message_from_text(row.text, "m"), row.path.split("."))
    match row.fate:
        case Fate.HONOURED:
            config = configured(row.text)
            assert row.seen(config) == row.value
            assert config.warnings == ()
        case Fate.WARNED:
            assert any(row.named in warning for warning in configured(row.text).warnings)
        case Fate.REFUSED:
            with pytest.raises(InvalidArgument) as refused:
                configured(row.text)
            assert row.named in refused.value.message
            assert "'m'" in refused.value.message


@pytest.mark.parametrize("row", [row for row in ROWS if row.fate is not Fate.REFUSED], ids=named)
def test_what_is_not_refused_is_shown_and_reads_back_the_same(row: Row) -> None:
    config = parse_text(row.text, "m")
    shown = to_message(config)
    assert has(shown, row.path.split("."))
    again = parse_text(to_text(config), "m")
    assert to_message(again) == shown
    assert again.warnings == config.warnings
    assert row.seen(again) == row.value


def has(message: Any, path: list[str]) -> bool:
    """Whether the field at ``path`` is there: a value other than the one it has when nothing is said, if it can be."""
    field = message.DESCRIPTOR.fields_by_name[path[0]]
    values = getattr(message, path[0])
    if is_map(field):
        inner = [values[key] for key in values]
        return bool(inner) if len(path) == 1 else any(has(value, path[1:]) for value in inner)
    if len(path) > 1:
        return any(has(value, path[1:]) for value in (values if is_repeated(field) else [values]))
    single_valued = field.enum_type is not None and len(field.enum_type.values) == 1
    return single_valued or field.message_type is not None or bool(values)


def documented() -> list[tuple[str, str]]:
    """The table of the documentation: each pattern of fields, and the first word of what is done."""
    found: list[tuple[str, str]] = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            fate = re.split(r"\W", cells[1], maxsplit=1)[0]
            found += [(pattern, fate) for pattern in re.findall(r"`([^`]+)`", cells[0])]
    return found


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_the_documentation_says_of_each_field_what_is_done(row: Row) -> None:
    fates = [fate for pattern, fate in documented() if covers(pattern, row.path)]
    assert fates == [row.fate.value]


def test_the_documentation_names_no_field_that_is_not_there() -> None:
    paths = [row.path for row in ROWS]
    unknown = [pattern for pattern, _ in documented() if not any(covers(pattern, path) for path in paths)]
    assert unknown == []


def covers(pattern: str, path: str) -> bool:
    """Whether ``optimization.cuda.*``, or a path as it is, means the field at ``path``."""
    return path == pattern or (pattern.endswith(".*") and path.startswith(pattern.removesuffix("*")))
