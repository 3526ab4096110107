"""HTTP inference bodies ⇄ requests and responses: JSON, with tensors in it or as binary parts after it.

    body = JSON [binary part of the first binary tensor] [of the second] …

The header ``Inference-Header-Content-Length`` is the JSON's length in bytes. Without it the whole body is JSON; 0 means
a *raw request*, whose body is the elements of the model's only input. The rules are those of the binary tensor data
extension of the Open Inference Protocol as Triton has it, plus FP16 and BF16 as JSON numbers, which Triton refuses.

Whatever the client sends, nothing but InvalidArgument is raised for it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import Datatype
from ortolan.inference.request import (
    MAX_TENSOR_PARAMETERS,
    MAX_TENSORS,
    UNREAD,
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    Tensor,
)
from ortolan.inference.shared_memory import SharedMemorySlice
from ortolan.inference.tensor_bytes import array_from_bytes, element_bytes
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.json_binary_parts import BinaryParts, json_size
from ortolan.protocol.json_document import may_hold_booleans, parse_object
from ortolan.protocol.json_fields import (
    boolean_member,
    object_member,
    objects_member,
    shown,
    text_member,
    wrong_type,
)
from ortolan.protocol.json_parameters import client_parameters
from ortolan.protocol.json_tensors import (
    array_from_json,
    element_count,
    json_elements,
    with_non_finite_tokens,
)
from ortolan.protocol.request_parameters import too_many_parameters
from ortolan.protocol.shared_memory_parameters import refuse_classes, shared_memory_slice

_REQUEST = "the request"
_KEPT_JSON = 256


@dataclass(slots=True)
class EncodedResponse:
    """A response's body, in pieces. ``header_length`` is the JSON's length where binary parts follow, else None."""

    pieces: tuple[bytes | memoryview, ...]
    header_length: int | None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def decode_request(
    model_name: str, model_version: str, body: bytes | memoryview, header_length: str | None
) -> InferenceRequest:
    """The request in ``body``; binary tensors are read-only views of it, those in shared memory are still unread.

    ``header_length`` is the text of the header, None when there is none. A raw request (see ``is_raw_request``) is for
    ``decode_raw_request``. Raises InvalidArgument for whatever is not a request, naming field, expected and got.
    """
    size = len(body) if header_length is None else json_size(header_length, len(body))
    text = bytes(body[:size])
    document = parse_object(text)
    if "inputs" not in document:
        raise InvalidArgument("the request's JSON has no 'inputs'")
    # Looking through the text pays off for long lists of numbers, and those come without binary parts.
    booleans = size < len(body) or may_hold_booleans(text)
    parts = BinaryParts(body, size, model_name)
    inputs = []
    for index, fields in enumerate(objects_member(document, "inputs", _REQUEST, MAX_TENSORS)):
        inputs.append(_input(fields, index, parts, booleans))
    parts.refuse_rest()
    outputs = []
    for index, fields in enumerate(objects_member(document, "outputs", _REQUEST, MAX_TENSORS)):
        outputs.append(_output(fields, index))
    parameters = object_member(document, "parameters", _REQUEST)
    return InferenceRequest(
        model_name,
        model_version,
        text_member(document, "id", _REQUEST) if "id" in document else "",
        tuple(inputs),
        tuple(outputs),
        client_parameters(parameters),
        boolean_member(parameters, "binary_data_output", _REQUEST),
    )


def is_raw_request(header_length: str | None) -> bool:
    """Whether the header says 0: the body is the model's only input and nothing else."""
    return header_length is not None and header_length.strip("0") == "" != header_length


def decode_raw_request(
    model_name: str, model_version: str, body: bytes | memoryview, signature: ModelSignature
) -> InferenceRequest:
    """The request whose ``body`` is the elements of the model's only input; all outputs are to be binary.

    The input's shape is the declared one, with one row where the model batches; one variable dimension may be filled
    from the size. For BYTES the body is the single element itself, *without* a length before it, as Triton has it.
    Raises InvalidArgument when the model or the size does not allow it.
    """
    if len(signature.inputs) != 1:
        raise InvalidArgument(
            f"a raw binary request needs a model with exactly one input, but model '{model_name}' has "
            f"{len(signature.inputs)}; send a JSON header that says which bytes belong to which input"
        )
    spec = signature.inputs[0]
    dims = _raw_dims(spec, len(body), model_name)
    shape = (1, *dims) if signature.batching else dims
    if spec.datatype is datatypes.BYTES:
        body = len(body).to_bytes(4, "little") + body
    count = element_count(list(shape), spec.name)
    array = array_from_bytes(body, 0, len(body), spec.datatype, shape, count, spec.name)
    tensor = Tensor(spec.name, spec.datatype, shape, array)
    return InferenceRequest(model_name, model_version, inputs=(tensor,), binary_by_default=True)


def encode_response(response: InferenceResponse, request: InferenceRequest) -> EncodedResponse:
    """The body for ``response``: each output as ``request`` asks for it, the binary parts in the order of the outputs.

    Only an output in binary form has ``parameters``, because clients of Triton read nothing else there. One that was
    written to shared memory has neither them nor ``data``. Raises InvalidArgument for an output that JSON cannot
    express.
    """
    if request.binary_by_default and not (request.outputs or response.id or response.parameters):
        return _all_binary(response)
    asked = asked_binary(request)
    outputs: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for tensor in response.outputs:
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype.name, "shape": tensor.shape}
        if tensor.shared_memory is not None:
            pass
        elif asked.get(tensor.name, request.binary_by_default):
            part = element_bytes(tensor)
            entry["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            entry["data"] = json_elements(tensor)
        outputs.append(entry)
    text = response_json(response, outputs)
    if not any(map(len, parts)):
        return EncodedResponse((text,), None)
    return EncodedResponse((text, *parts), len(text))


def _all_binary(response: InferenceResponse) -> EncodedResponse:
    parts = [element_bytes(tensor) for tensor in response.outputs]
    sizes = [
        (tensor.name, tensor.datatype.name, tensor.shape, len(part))
        for tensor, part in zip(response.outputs, parts, strict=True)
    ]
    text = _usual_json(response.model_name, response.model_version, tuple(sizes))
    if not any(map(len, parts)):
        return EncodedResponse((text,), None)
    return EncodedResponse((text, *parts), len(text))


@lru_cache(_KEPT_JSON)
def _usual_json(
    model_name: str, model_version: str, outputs: tuple[tuple[str, str, tuple[int, ...], int], ...]
) -> bytes:
    """The JSON of a response whose outputs are all binary, and that differs from others only in these."""
    entries = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, datatype, shape, size in outputs
    ]
    return orjson.dumps({"model_name": model_name, "model_version": model_version, "outputs": entries})


def asked_binary(request: InferenceRequest) -> Mapping[str, bool]:
    """Of each output that the request lists, whether it is to go after the JSON."""
    return {output.name: output.binary for output in request.outputs}


def response_json(response: InferenceResponse, outputs: list[dict[str, Any]]) -> bytes:
    """The JSON of ``response``, in which ``outputs`` describe its tensors."""
    document: dict[str, Any] = {"id": response.id} if response.id else {}
    document["model_name"] = response.model_name
    document["model_version"] = response.model_version
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    document["outputs"] = outputs
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes NaN and infinities as null. To look for that word afterwards is cheaper than to look at each number
    # before, and where it stands in a string the second time gives the same text.
    if b"null" not in text:
        return text
    for entry in outputs:
        if "data" in entry:
            entry["data"] = with_non_finite_tokens(entry["data"])
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _input(fields: Mapping[str, Any], index: int, parts: BinaryParts, may_hold_booleans: bool) -> Tensor:
    name = text_member(fields, "name", f"inputs[{index}]")
    datatype = _datatype(fields, name)
    if "shape" not in fields:
        raise InvalidArgument(f"input '{name}' has no 'shape'")
    count = element_count(fields["shape"], name)
    shape = tuple(fields["shape"])
    parameters = _tensor_parameters(fields, f"input '{name}'")
    place = _place(fields, parameters, name)
    if place is not None:
        return Tensor(name, datatype, shape, UNREAD, place)
    if "data" in fields:
        array = array_from_json(fields["data"], datatype, shape, count, name, may_hold_booleans)
    else:
        offset, size = parts.take(parameters["binary_data_size"], count, datatype, name)
        array = array_from_bytes(parts.body, offset, size, datatype, shape, count, name)
    return Tensor(name, datatype, shape, array)


def _tensor_parameters(fields: Mapping[str, Any], owner: str) -> Mapping[str, Any]:
    parameters = object_member(fields, "parameters", owner)
    if len(parameters) > MAX_TENSOR_PARAMETERS:
        raise too_many_parameters(owner, len(parameters), MAX_TENSOR_PARAMETERS)
    return parameters


def _place(fields: Mapping[str, Any], parameters: Mapping[str, Any], name: str) -> SharedMemorySlice | None:
    """The input's place in shared memory, if it is there. Raises InvalidArgument unless it is in exactly one place."""
    binary = "binary_data_size" in parameters
    sources = ("data" in fields) + binary + ("shared_memory_region" in parameters)
    if sources != 1:
        raise InvalidArgument(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. Input '{name}' sets {sources} of them."
        )
    # Nearly always that is the only parameter there may be, and then there is nothing to look for.
    return None if len(parameters) == binary else shared_memory_slice(parameters, f"input '{name}'")


def _output(fields: Mapping[str, Any], index: int) -> RequestedOutput:
    name = text_member(fields, "name", f"outputs[{index}]")
    where = f"output '{name}'"
    parameters = _tensor_parameters(fields, where)
    binary = boolean_member(parameters, "binary_data", where)
    if len(parameters) == ("binary_data" in parameters):
        return RequestedOutput(name, binary)
    class_count = parameters.get("classification", 0)
    if "classification" in parameters and (type(class_count) is not int or class_count < 1):
        raise wrong_type(f"'classification' of {where}", "an integer of at least 1", class_count)
    place = shared_memory_slice(parameters, where)
    if place is not None and class_count:
        raise refuse_classes(where)
    return RequestedOutput(name, binary, class_count, place)


def _raw_dims(spec: TensorSpec, size: int, model_name: str) -> tuple[int, ...]:
    variable = spec.dims.count(-1)
    fixed = math.prod(dim for dim in spec.dims if dim != -1)
    if spec.datatype is datatypes.BYTES:
        if variable or fixed != 1:
            raise InvalidArgument(
                f"for a raw binary request the BYTES input '{spec.name}' of model '{model_name}' must have the shape "
                f"[1], but it has {list(spec.dims)}"
            )
        return spec.dims
    if variable > 1:
        raise InvalidArgument(
            f"the shape of the raw input '{spec.name}' of model '{model_name}' cannot be told from the body's size, "
            f"because {variable} of its dimensions are variable: {list(spec.dims)}"
        )
    unit = fixed * spec.datatype.size_bytes
    filled = size // unit if variable and unit else 0
    if size != (filled * unit if variable else unit):
        raise InvalidArgument(
            f"input byte size mismatch for input '{spec.name}' for model '{model_name}'. "
            f"Expected {'a multiple of ' if variable else ''}{unit}, got {size}"
        )
    return tuple(filled if dim == -1 else dim for dim in spec.dims)


def _datatype(fields: Mapping[str, Any], name: str) -> Datatype:
    text = text_member(fields, "datatype", f"input '{name}'")
    datatype = datatypes.BY_NAME.get(text)
    if datatype is None:
        raise InvalidArgument(
            f"input '{name}' has the unknown datatype {shown(text)}; known are {', '.join(datatypes.BY_NAME)}"
        )
    return datatype
