"""Encrypting a model's file, as ``ortolan encrypt`` does it."""

from pathlib import Path
from typing import BinaryIO

from ortolan.errors import StartupError
from ortolan.repository.encrypted_model import encrypt, is_encrypted, read_key_file
from ortolan.repository.external_data import NotWalkable, external_locations
from ortolan.repository.foreign_files import beginning_of, kind_of
from ortolan.repository.protobuf_fields import MESSAGE, opened, parts, whole

_MODEL_GRAPH = 7
_ORT_FORMAT = b"ORTM"


def encrypt_model(model: Path, output: Path, key_file: Path) -> None:
    """Write the file ``model`` to the new file ``output``, encrypted with the first key in ``key_file``.

    Raises StartupError when a file is not as it should be; ``output`` is whole then, or not there.
    """
    key = read_key_file(key_file)[0]
    try:
        with model.open("rb") as source:
            if is_encrypted(source):
                raise StartupError(f"'{model}' is encrypted already")
            _refuse_others(model)
            _write(source, output, key)
    except FileExistsError:
        raise StartupError(f"'{output}' is there already: name a file that is not") from None
    except OSError as error:
        raise StartupError(f"'{model}' cannot be encrypted to '{output}': {error.strerror}") from None


def _write(source: BinaryIO, output: Path, key: bytes) -> None:
    with output.open("xb") as target:
        try:
            encrypt(source, target, key)
        except OSError:
            output.unlink()
            raise


def _refuse_others(model: Path) -> None:
    """Raises StartupError for what is no ONNX model with all of its weights inside."""
    beginning = beginning_of(model)
    if beginning[4:8] == _ORT_FORMAT:
        return
    try:
        has_graph, elsewhere = _has_graph(model), external_locations(model)
    except NotWalkable:
        has_graph, elsewhere = False, ()
    if not has_graph:
        kind = kind_of(beginning)
        raise StartupError(f"'{model}' is no ONNX model" + (f", but {kind}" if kind else ""))
    if elsewhere:
        raise StartupError(
            f"'{model}' has weights in other files, which would stay as they are: save it with all weights inside, as "
            "onnx.save does of a model that onnx.load has read"
        )


def _has_graph(model: Path) -> bool:
    with opened(model) as file:
        return any(field.wire_type == MESSAGE for field in parts(file, whole(file), _MODEL_GRAPH))
