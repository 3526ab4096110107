"""Models that ONNX Runtime refuses for a reason that can be mended without changing what they compute.

Three are known: an opset or an IR version newer than the runtime's, and text models that ask for the locale
``en_US.UTF-8``, which slim containers do not have. And what the server tells TensorRT of shapes is left out again for a
model that TensorRT takes only parts of. Each mending is told to the operator.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.execution.devices import Placement
from ortolan.execution.load_refusals import ModelNotLoadable
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.tensorrt_defaults import without_derived_profiles

_IR_TOO_NEW = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPSET_TOO_NEW = re.compile(r"Opset (\d+) is under development.* for domain ai\.onnx is till opset (\d+)")
_LOCALE_MISSING = re.compile(r"Failed to construct locale with name:([\w.\-]+)")
_PROFILES_MISSING = "profile"
_MOST_MENDINGS = 4


def open_session(
    model: Path | bytes, model_name: str, settings: SessionSettings, placement: Placement, folder: Path
) -> tuple[Session, tuple[str, ...]]:
    """A session of ``model``, a file or its content, mended where that helps, and one sentence for each mending.

    ``folder`` is where its external data lies.

    Raises ModelNotLoadable with the runtime's reason, InvalidArgument when the providers do not come up.
    """
    notes: list[str] = []
    source = model
    while True:
        try:
            return Session(source, model_name, settings, placement, folder), tuple(notes)
        except ModelNotLoadable as error:
            if _PROFILES_MISSING in error.runtime_text.lower() and (plain := without_derived_profiles(placement)):
                placement = plain
                notes.append("the TensorRT profiles that its max_batch_size and dims come to were left out")
                continue
            if len(notes) == _MOST_MENDINGS:
                raise
            content = source if isinstance(source, bytes) else _content(source, error)
            source, note = _mend(content, error)
            notes.append(note)


def _content(model: Path, error: ModelNotLoadable) -> bytes:
    if not any(cause.search(error.runtime_text) for cause in (_IR_TOO_NEW, _OPSET_TOO_NEW, _LOCALE_MISSING)):
        raise error
    return model.read_bytes()


def _mend(content: bytes, error: ModelNotLoadable) -> tuple[bytes, str]:
    """The mended model and what was done, or ``error`` again when nothing is known to help."""
    text = error.runtime_text
    try:
        if found := _IR_TOO_NEW.search(text):
            newest = int(found[2])
            return _with_ir_version(content, newest), f"its IR version {found[1]} was lowered to {newest}"
        if found := _OPSET_TOO_NEW.search(text):
            newest = int(found[2])
            return _converted(content, newest, error), f"its opset {found[1]} was converted to {newest}"
        if found := _LOCALE_MISSING.search(text):
            return _with_locale(content, "C.UTF-8"), f"its locale {found[1]} was replaced by C.UTF-8"
    except ImportError:
        raise InvalidArgument(f"{error} (it could be mended if the 'onnx' package were installed)") from error
    raise error


def _with_ir_version(content: bytes, version: int) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    model.ir_version = version
    return bytes(model.SerializeToString())


def _converted(content: bytes, version: int, refusal: ModelNotLoadable) -> bytes:
    try:
        return _with_opset(content, version)
    except ImportError:
        raise
    # The converter fails with whatever its C++ part throws.
    except Exception as error:
        raise ModelNotLoadable(
            f"{refusal} It cannot be converted to opset {version} either: export it with that opset or a lower one.",
            refusal.runtime_text,
        ) from error


def _with_opset(content: bytes, version: int) -> bytes:
    import onnx
    from onnx import version_converter

    model = onnx.load_from_string(content)
    converted = version_converter.convert_version(model, version)
    converted.ir_version = model.ir_version
    return bytes(converted.SerializeToString())


def _with_locale(content: bytes, locale: str) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    for attribute in _locale_attributes(model.graph.node):
        attribute.s = locale.encode()
    return bytes(model.SerializeToString())


def _locale_attributes(nodes: Sequence[Any]) -> list[Any]:
    return [
        attribute
        for node in nodes
        if node.op_type == "StringNormalizer"
        for attribute in node.attribute
        if attribute.name == "locale"
    ]
