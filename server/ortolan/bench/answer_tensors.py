"""The bodies of answers ⇄ their tensors, as a client reads them."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ortolan.bench.load import Form
from ortolan.errors import OrtolanError
from ortolan.inference.datatypes import BF16, BY_NAME, BYTES, Array, Datatype, float32_from_bf16
from ortolan.inference.tensor_bytes import array_from_bytes
from ortolan.protocol import protobuf_messages as messages

_RELATIVE, _ABSOLUTE = 1e-2, 1e-3


def same_tensors(form: Form, body: bytes, right: bytes) -> bool:
    """Whether two answers have the same tensors; floating-point numbers may differ as other batch sizes round."""
    try:
        found, wanted = answer_tensors(form, body), answer_tensors(form, right)
    except (ValueError, KeyError, TypeError, OrtolanError):
        return False
    return found.keys() == wanted.keys() and all(_same(found[name], wanted[name]) for name in wanted)


def answer_tensors(form: Form, body: bytes) -> Mapping[str, Array]:
    """The outputs of an answer by name. Raises ValueError, KeyError, TypeError or OrtolanError if it is no answer."""
    return _from_message(body) if form is Form.GRPC else _from_http(body)


def _from_http(body: bytes) -> dict[str, Array]:
    # Every byte is a character of Latin-1, so that positions in the text are those in the body.
    document, size = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    tensors = {}
    for output in document["outputs"]:
        length = output.get("parameters", {}).get("binary_data_size")
        if length is None:
            tensors[output["name"]] = np.array(output["data"]).reshape(output["shape"])
            continue
        tensors[output["name"]] = _from_bytes(body[size : size + length], output["datatype"], output["shape"])
        size += length
    return tensors


def _from_message(body: bytes) -> dict[str, Array]:
    message = messages.ModelInferResponse.FromString(body)
    if len(message.raw_output_contents) != len(message.outputs):
        return {output.name: _typed_contents(output) for output in message.outputs}
    pairs = zip(message.outputs, message.raw_output_contents, strict=True)
    return {output.name: _from_bytes(raw, output.datatype, output.shape) for output, raw in pairs}


def _typed_contents(output: Any) -> Array:
    """Some servers send gRPC's typed fields instead of raw bytes."""
    ((_, values),) = output.contents.ListFields()
    return np.array(values).reshape(tuple(output.shape))


def _from_bytes(data: bytes, datatype_name: str, sizes: Any) -> Array:
    datatype: Datatype = BY_NAME[datatype_name]
    shape = tuple(sizes)
    count = int(np.prod(shape, dtype=np.int64))
    if datatype is not BYTES and len(data) != count * datatype.size_bytes:
        raise ValueError("the tensor's bytes are not as many as its shape says")
    array = array_from_bytes(data, 0, len(data), datatype, shape, count, "")
    return float32_from_bf16(array) if datatype is BF16 else array  # type: ignore[arg-type]


def _same(found: Array, wanted: Array) -> bool:
    if found.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool((found == wanted).all())
    return bool(np.allclose(found, wanted, _RELATIVE, _ABSOLUTE, equal_nan=True))
