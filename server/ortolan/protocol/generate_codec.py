"""Bodies of Triton's generate extension ⇄ requests and responses: a flat JSON object of names and values.

    {"text_input": "hello", "temperature": 0.5, "id": "7", "parameters": {"priority": 1}}
    {"id": "7", "model_name": "m", "model_version": "1", "text_output": "hello there"}

The rules are those of Triton's ``generate`` (``ConvertGenerateRequest`` in ``http_server.cc``). A member that is called
as an input is that input's tensor, also inside ``parameters``; ``id`` is the request's; everything else is a parameter
of the request, and of two with one name that in ``parameters`` counts. There is no shape in the request: it is made
from the declared one (see ``shape_for``).

Where Triton takes a value or a flat list, nested lists do as well: their elements count, row-major. FP16 and BF16 are
taken and given as numbers, as in ``json_codec``. Whatever the client sends, only InvalidArgument is raised for it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.inference.request import InferenceRequest, InferenceResponse, Tensor
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.json_document import may_hold_booleans, parse_object
from ortolan.protocol.json_fields import described, object_member, shown, text_member
from ortolan.protocol.json_parameters import RESERVED_PREFIX, client_parameters
from ortolan.protocol.json_tensors import array_from_json, flattened, json_elements
from ortolan.protocol.json_text import json_text

_REQUEST = "the request"
_ID, _PARAMETERS = "id", "parameters"
_MOST_NAMED = 5


def decode_request(model_name: str, model_version: str, body: bytes, signature: ModelSignature) -> InferenceRequest:
    """The request in ``body`` for a model with ``signature``, all of whose outputs are wanted.

    Raises InvalidArgument for whatever is not a request. That every input is there, once, is for ``signature.check``.
    """
    if not body:
        raise InvalidArgument(
            f"the request has no JSON: expected an object with a value for each input of model '{model_name}', "
            "got an empty body"
        )
    document = parse_object(body)
    specs = {spec.name: spec for spec in signature.inputs}
    booleans = may_hold_booleans(body)
    inputs: list[Tensor] = []
    parameters: dict[str, object] = {}
    for name, value in _members(document, specs):
        if name in specs:
            inputs.append(_tensor(value, specs[name], signature, booleans))
        else:
            parameters[name] = value
    _refuse_what_can_be_no_parameter(parameters, signature)
    accepted = client_parameters(parameters)
    _refuse_what_took_an_inputs_place(inputs, parameters, signature)
    return InferenceRequest(
        model_name,
        model_version,
        text_member(document, _ID, _REQUEST) if _ID in document and _ID not in specs else "",
        tuple(inputs),
        parameters=accepted,
    )


def shape_for(count: int, shape: Sequence[int]) -> tuple[int, ...] | None:
    """A shape with ``count`` elements like the declared ``shape``, None if there is none.

    The last dimension that may vary (-1) takes what the fixed ones leave, all others that may vary are 1. A batching
    model's first dimension is one of those: it takes the rest only where no other can, so that twice as many values
    as a row has are two rows.
    """
    fixed = math.prod(size for size in shape if size != -1)
    if -1 not in shape:
        return tuple(shape) if count == fixed else None
    rest, left_over = divmod(count, fixed) if fixed else (1, count)
    if left_over:
        return None
    last = max(index for index, size in enumerate(shape) if size == -1)
    filled = [1 if size == -1 else size for size in shape]
    filled[last] = rest
    return tuple(filled)


def encode_response(response: InferenceResponse) -> bytes:
    """The flat object for ``response``: outputs with one element as a value, others as a flat list.

    Where an output or a parameter has the name of another member, the output counts, then the parameter. Raises
    InvalidArgument for BYTES that JSON cannot express.
    """
    document: dict[str, Any] = {_ID: response.id} if response.id else {}
    document |= {"model_name": response.model_name, "model_version": response.model_version}
    document |= response.parameters
    for tensor in response.outputs:
        document[tensor.name] = _value(tensor)
    return json_text(document)


def event(text: bytes) -> bytes:
    """One server-sent event that carries the JSON ``text``, which must have no line break, as ours never has."""
    return b"data: " + text + b"\n\n"


def _members(document: Mapping[str, object], specs: Mapping[str, TensorSpec]) -> Iterator[tuple[str, object]]:
    """Each member that is an input or a parameter, those inside ``parameters`` last."""
    reserved = {_ID, _PARAMETERS} - specs.keys()
    for name, value in document.items():
        if name not in reserved:
            yield name, value
    if _PARAMETERS in reserved:
        yield from object_member(document, _PARAMETERS, _REQUEST).items()


def _refuse_what_can_be_no_parameter(parameters: Mapping[str, object], signature: ModelSignature) -> None:
    """Raises InvalidArgument for a value that only an input could have; reserved names are refused as such."""
    for name, value in parameters.items():
        if not isinstance(value, str | bool | int | float) and not name.startswith(RESERVED_PREFIX):
            raise InvalidArgument(
                f"{shown(name)} is no input of model '{signature.model_name}' ({_its_inputs(signature)}), and as a "
                f"parameter it must be a string, a number or a boolean, got {described(value)}"
            )


def _refuse_what_took_an_inputs_place(
    inputs: Sequence[Tensor], parameters: Mapping[str, object], signature: ModelSignature
) -> None:
    """Raises InvalidArgument where inputs are missing and there are parameters, whose names may be mistaken."""
    given = {tensor.name for tensor in inputs}
    missing = [spec.name for spec in signature.inputs if not spec.optional and spec.name not in given]
    if missing and parameters:
        taken = ", ".join(shown(name) for name in list(parameters)[:_MOST_NAMED])
        more = len(parameters) - _MOST_NAMED
        raise InvalidArgument(
            f"the required input(s) {missing} of model '{signature.model_name}' are missing, and it has no "
            f"input called {taken}{f' or {more} others' if more > 0 else ''}, which became parameters; "
            f"{_its_inputs(signature)}"
        )


def _its_inputs(signature: ModelSignature) -> str:
    return f"its inputs are {[spec.name for spec in signature.inputs]}"


def _tensor(value: object, spec: TensorSpec, signature: ModelSignature, may_hold_booleans: bool) -> Tensor:
    elements = flattened(value, f"the value of input '{spec.name}'") if isinstance(value, list) else [value]
    declared = spec.wire_shape(signature.batching)
    shape = shape_for(len(elements), declared)
    if shape is None:
        raise InvalidArgument(
            f"The schema can not convert input '{spec.name}' to tensor with proper shape: model "
            f"'{signature.model_name}' takes {list(declared)}, which {len(elements)} values do not fill"
        )
    array = array_from_json(elements, spec.datatype, shape, len(elements), spec.name, may_hold_booleans)
    return Tensor(spec.name, spec.datatype, shape, array)


def _value(tensor: Tensor) -> object:
    try:
        elements: Any = json_elements(tensor)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"output '{tensor.name}' has bytes that are not UTF-8 and cannot be sent as JSON: send the request to "
            "'infer' and ask for the output with the parameter 'binary_data': true"
        ) from error
    return elements[0] if len(elements) == 1 else elements
