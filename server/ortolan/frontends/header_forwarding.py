"""Request headers that become parameters of the inference, for those who look at requests further in."""

import re
from collections.abc import Collection, Iterable

from ortolan.errors import InvalidArgument, StartupError
from ortolan.inference.request import Parameters

# What a client says in a request's own parameters decides about it; a proxy's header must not.
_DECIDING = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output")
_RESERVED_PREFIX = "triton_"
# It tells the frontend how to answer, and nothing to the model.
_NEVER = frozenset({"triton_grpc_error"})


class HeaderForwarding:
    """Forwards the headers whose name has a match of an expression in it, whatever their case, as Triton does."""

    def __init__(self, pattern: str, flag: str, secret: Collection[str] = ()) -> None:
        """No header for an empty ``pattern``, and never those named in ``secret``, whatever their case.

        Raises StartupError, naming ``flag``, for a pattern that is no expression.
        """
        self._never = _NEVER | {name.lower() for name in secret}
        try:
            self._pattern = re.compile(pattern, re.IGNORECASE) if pattern else None
        except re.error as error:
            raise StartupError(f"{flag}: '{pattern}' is not a regular expression: {error}") from None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def parameters(self, headers: Iterable[tuple[str, str]], own: Parameters) -> Parameters:
        """``own``, the request's parameters, with those of the ``headers`` (lower-case names) that are to be forwarded.

        Where both have a name the request's own stays. Raises InvalidArgument for a header that is named like a
        parameter with a meaning.
        """
        if self._pattern is None:
            return own
        forwarded: dict[str, bool | int | float | str] = {}
        for name, value in headers:
            if name not in self._never and self._pattern.search(name):
                _refuse_deciding(name)
                forwarded[name] = value
        return forwarded | dict(own) if forwarded else own


def _refuse_deciding(name: str) -> None:
    if name in _DECIDING or name.startswith(_RESERVED_PREFIX):
        raise InvalidArgument(
            f"the header '{name}' cannot become a parameter, because parameters of that name are reserved; "
            "send it in the request's parameters"
        )


NO_FORWARDING = HeaderForwarding("", "")
