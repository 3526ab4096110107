"""What a request says beside its tensors: its id, and the parameters to which the protocol gives a meaning.

Both frontends hand these on as they came, so the rules are here, once. The types are those of Triton's inference
protocol; a parameter that is not named here is the client's own, and may be anything.
"""

from ortolan.errors import InvalidArgument
from ortolan.execution.graph_request import NO_LIMITS, RequestLimits, SequenceTerms
from ortolan.inference.printable import printable
from ortolan.inference.request import InferenceRequest, Parameters

MAX_ID_CHARACTERS = 1024
"""An id is kept in traces and repeated in answers, so it has to end somewhere. Triton has no limit."""
MAX_SEQUENCE_ID_CHARACTERS = 128
"""Triton's own limit."""

_SHOWN_ID_CHARACTERS = 128


def check_id(request_id: str) -> None:
    """Raises InvalidArgument for an id that is too long."""
    if len(request_id) > MAX_ID_CHARACTERS:
        raise InvalidArgument(
            f"the request's id has {len(request_id)} characters, at most {MAX_ID_CHARACTERS} are accepted"
        )


def with_id(message: str, request_id: str) -> str:
    """``message`` as Triton writes those about one request: it says which."""
    return f"[request id: {printable(request_id, _SHOWN_ID_CHARACTERS) or '<id_unknown>'}] {message}"


def limits_of(request: InferenceRequest) -> RequestLimits:
    """What the request asks of the scheduler, by its parameters and by how it came.

    Raises InvalidArgument for a parameter with a meaning that is not of its type.
    """
    if not request.parameters:
        return RequestLimits(deadline_ns=request.deadline_ns) if request.deadline_ns else NO_LIMITS
    _check_sequence(request.parameters)
    priority = _count("priority", request.parameters)
    timeout_us = _count("timeout", request.parameters)
    if not (priority or timeout_us or request.deadline_ns):
        return NO_LIMITS
    return RequestLimits(priority, timeout_us, request.deadline_ns)


def sequence_of(parameters: Parameters) -> SequenceTerms | None:
    """Which sequence the request belongs to, by parameters that ``limits_of`` has checked; None for no sequence."""
    sequence_id = parameters.get("sequence_id", 0)
    if not sequence_id or not isinstance(sequence_id, (int, str)):
        return None
    return SequenceTerms(
        sequence_id, bool(parameters.get("sequence_start", False)), bool(parameters.get("sequence_end", False))
    )


def _count(name: str, parameters: Parameters) -> int:
    """The parameter ``name``, which must be a whole number and not negative; 0 where there is none."""
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise InvalidArgument(f"request parameter '{name}' must be a whole number, 0 or more, got {value!r:.64}")
    return value


def _check_sequence(parameters: Parameters) -> None:
    """Where a model is not served in sequences these have no effect; but they have to be what they should."""
    for name in ("sequence_start", "sequence_end"):
        value = parameters.get(name, False)
        if not isinstance(value, bool):
            raise InvalidArgument(f"request parameter '{name}' must be true or false, got {value!r:.64}")
    value = parameters.get("sequence_id", 0)
    if isinstance(value, str):
        fits = len(value) <= MAX_SEQUENCE_ID_CHARACTERS
    else:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64
    if not fits:
        raise InvalidArgument(
            "request parameter 'sequence_id' must be a whole number, 0 or more, or a text of at most "
            f"{MAX_SEQUENCE_ID_CHARACTERS} characters, got {value!r:.64}"
        )
