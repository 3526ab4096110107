"""gRPC inference messages ⇄ InferenceRequest and InferenceResponse: wire bytes on one side, plain data on the other.

Tensors go raw where that is allowed, and then protobuf never touches them (``protobuf_framing``). Requests may also
carry them typed, in ``contents``; responses always have one entry of ``raw_output_contents`` for each output.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.inference.request import (
    MAX_PARAMETERS,
    MAX_TENSORS,
    InferenceRequest,
    InferenceResponse,
    Parameters,
    ParameterValue,
    RequestedOutput,
)
from ortolan.inference.tensor_bytes import element_bytes
from ortolan.protocol.protobuf_framing import (
    INFER_RESPONSE,
    MAX_FIELDS,
    MAX_INNER_FIELDS,
    MAX_TENSOR_FIELDS,
    RAW_OUTPUT_CONTENTS,
    field_head,
    has_crowded_tensors,
    has_more_fields,
    raw_views,
)
from ortolan.protocol.protobuf_messages import (
    QUICK_BYTES,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
    parse,
)
from ortolan.protocol.protobuf_tensors import input_tensors, place_in_shared_memory
from ortolan.protocol.request_parameters import too_many_parameters
from ortolan.protocol.serialized import Raw, Serialized
from ortolan.protocol.shared_memory_parameters import refuse_classes

MAX_MESSAGE_BYTES = 2**31 - 1
"""protobuf's and gRPC's own limit to one message."""

EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"
"""The one reserved parameter that clients may send; perf_analyzer sends it with every request."""

FINAL_RESPONSE = "triton_final_response"
"""The parameter of a stream's response that says whether it is the last for its request."""

# Below, to put a response together costs less than to send it in pieces.
_CHEAP_TO_JOIN_BYTES = 64 << 10
_KEPT_HEADS = 256

_Declared = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, datatype and shape of each output."""


def decode_request(data: Raw) -> InferenceRequest:
    """The request that a serialized ModelInferRequest asks for. Its tensors may be read-only views of ``data``; those
    in shared memory are still unread.

    Raises InvalidArgument, and nothing else, for bytes that are no such message or that break the protocol's rules.
    """
    message, raw_contents = _split(data)
    _check_count("inputs", message.inputs)
    _check_count("outputs", message.outputs)
    return InferenceRequest(
        model_name=message.model_name,
        model_version=message.model_version,
        id=message.id,
        inputs=input_tensors(message, raw_contents),
        outputs=tuple([_requested_output(output) for output in message.outputs]),
        parameters=_parameters(message.parameters),
    )


def request_id(data: Raw) -> str:
    """The id of a serialized ModelInferRequest, whatever else is wrong with it; "" where not even that can be read."""
    try:
        return str(_split(data)[0].id)
    except InvalidArgument:
        return ""


def encode_response(response: InferenceResponse) -> Serialized:
    """A serialized ModelInferResponse, its tensors in ``raw_output_contents``, one for each output and in their order;
    empty for one that was written to shared memory, because clients count these entries.

    Raises InvalidArgument when it would exceed what one gRPC message can hold.
    """
    pieces, size = response_pieces(response)
    return serialized(pieces, size)


def encode_stream_response(response: InferenceResponse) -> Serialized:
    """A serialized ModelStreamInferResponse that carries ``response``. Raises as ``encode_response`` does."""
    pieces, size = response_pieces(response)
    return serialized([field_head(INFER_RESPONSE, size), *pieces], size)


def encode_stream_error(message: str, request_id: str) -> bytes:
    """A serialized ModelStreamInferResponse that says why the request called ``request_id`` failed."""
    answer = ModelStreamInferResponse(error_message=message)
    answer.infer_response.id = request_id
    answer.infer_response.parameters[FINAL_RESPONSE].bool_param = True
    encoded: bytes = answer.SerializeToString()
    return encoded


def raw_tensor_at_end(data: Raw, most_before: int) -> str | None:
    """The datatype of the only input of a message that its raw elements end, ``most_before`` bytes before them at most.

    None for any other message. Raises InvalidArgument for what is none.
    """
    found = raw_views(data)
    if found is None or len(found[1]) != 1 or len(data) - len(found[1][0]) > most_before:
        return None
    inputs = _parsed(data[: found[0]]).inputs
    return str(inputs[0].datatype) if len(inputs) == 1 else None


def _split(data: Raw) -> tuple[Any, Sequence[Raw]]:
    """The message without its raw contents, and these as views of ``data``."""
    found = raw_views(data)
    if found is None:
        if has_more_fields(data, MAX_FIELDS):
            raise InvalidArgument(
                f"the request has more than {MAX_FIELDS} fields, and at most {MAX_TENSORS} inputs and as many outputs "
                "are accepted"
            )
        message = _parsed(data)
        return message, list(message.raw_input_contents)
    head_size, views = found
    return _parsed(data[:head_size]), views


def _parsed(data: Raw) -> Any:
    if len(data) > QUICK_BYTES and has_crowded_tensors(data):
        raise InvalidArgument(
            f"an input or output has more than {MAX_TENSOR_FIELDS} fields, or all have more than {MAX_INNER_FIELDS}: "
            "send fewer parameters and dimensions"
        )
    return parse(ModelInferRequest, data)


def _check_count(role: str, tensors: Sequence[Any]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise InvalidArgument(f"the request lists {len(tensors)} {role}, at most {MAX_TENSORS} are accepted")


def _requested_output(output: Any) -> RequestedOutput:
    if not output.parameters:
        return RequestedOutput(output.name)
    place = place_in_shared_memory("output", output)
    # Reading a map's missing key would add it.
    if "classification" not in output.parameters:
        return RequestedOutput(output.name, shared_memory=place)
    parameter = output.parameters["classification"]
    if parameter.WhichOneof("parameter_choice") != "int64_param" or parameter.int64_param < 1:
        raise InvalidArgument(
            f"parameter 'classification' of output '{output.name}' must be an int64_param of at least 1, "
            f"got {_parameter_text(parameter)}"
        )
    if place is not None:
        raise refuse_classes(f"output '{output.name}'")
    return RequestedOutput(output.name, class_count=parameter.int64_param)


def _parameters(entries: Mapping[str, Any]) -> Parameters:
    if len(entries) > MAX_PARAMETERS:
        raise too_many_parameters("the request", len(entries), MAX_PARAMETERS)
    return {name: _parameter_value(name, parameter) for name, parameter in entries.items()}


def _parameter_value(name: str, parameter: Any) -> ParameterValue:
    if name.startswith("triton_"):
        _check_reserved(name, parameter)
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        raise InvalidArgument(
            f"parameter '{name}' has no value: expected one of bool_param, int64_param, string_param, double_param "
            "and uint64_param"
        )
    value: ParameterValue = getattr(parameter, choice)
    return value


def _check_reserved(name: str, parameter: Any) -> None:
    if name != EMPTY_FINAL_RESPONSE:
        raise InvalidArgument(
            f"parameter '{name}' is refused: names that begin with 'triton_' are reserved, "
            f"all but {EMPTY_FINAL_RESPONSE}"
        )
    if parameter.WhichOneof("parameter_choice") != "bool_param":
        raise InvalidArgument(f"parameter '{name}' must be a bool_param, got {_parameter_text(parameter)}")


def _parameter_text(parameter: Any) -> str:
    choice: str | None = parameter.WhichOneof("parameter_choice")
    if choice is None:
        return "no value"
    # A client's text may be megabytes long, and this message has to fit a trailer.
    return choice if choice == "string_param" else f"{choice} {getattr(parameter, choice)}"


def serialized(pieces: Sequence[Raw], size: int) -> Serialized:
    """The pieces of a message, which has ``size`` bytes, as they are sent."""
    return b"".join(pieces) if size <= _CHEAP_TO_JOIN_BYTES else tuple(pieces)


def response_pieces(response: InferenceResponse) -> tuple[list[Raw], int]:
    """What a serialized ModelInferResponse is made of, and its size in bytes.

    First comes what stands before the tensors, then for each of them how many bytes it has, and these.
    """
    declared = tuple([(tensor.name, tensor.datatype.name, tensor.shape) for tensor in response.outputs])
    if response.id or response.parameters:
        message = _message_head(response.model_name, response.model_version, declared)
        message.id = response.id
        for name, value in response.parameters.items():
            _set_parameter(message.parameters[name], value)
        pieces: list[Raw] = [message.SerializeToString()]
    else:
        pieces = [_usual_head(response.model_name, response.model_version, declared)]
    for tensor in response.outputs:
        raw = b"" if tensor.shared_memory is not None else element_bytes(tensor)
        pieces.append(field_head(RAW_OUTPUT_CONTENTS, len(raw)))
        pieces.append(raw)
    size = sum(map(len, pieces))
    if size > MAX_MESSAGE_BYTES:
        raise InvalidArgument(
            f"the response has {size} bytes, more than the {MAX_MESSAGE_BYTES} that one gRPC message can hold. "
            "Ask for fewer rows or outputs"
        )
    return pieces, size


def _message_head(model_name: str, model_version: str, outputs: _Declared) -> Any:
    message = ModelInferResponse(model_name=model_name, model_version=model_version)
    for name, datatype, shape in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
    return message


@lru_cache(_KEPT_HEADS)
def _usual_head(model_name: str, model_version: str, outputs: _Declared) -> bytes:
    """What stands before the tensors of a response that differs from others only in these."""
    head: bytes = _message_head(model_name, model_version, outputs).SerializeToString()
    return head


def _set_parameter(parameter: Any, value: ParameterValue) -> None:
    # A bool is an int to isinstance, so it comes first.
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        # What int64 cannot hold came in as uint64, and goes out as that.
        setattr(parameter, "int64_param" if value < 2**63 else "uint64_param", value)
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
