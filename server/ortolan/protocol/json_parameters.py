"""The parameters that a client sends with a request, in every JSON body that has any."""

from collections.abc import Mapping

from ortolan.errors import InvalidArgument
from ortolan.inference.request import Parameters, ParameterValue
from ortolan.protocol.json_fields import shown, wrong_type

_RESERVED_PREFIX = "triton_"
# It says in which form outputs are wanted; who asks for one reads it before.
_OF_THE_CODEC = "binary_data_output"


def client_parameters(parameters: Mapping[str, object]) -> Parameters:
    """The parameters for the model and the scheduler.

    Raises InvalidArgument for keys that are reserved and for values that are no string, number or boolean.
    """
    kept: dict[str, ParameterValue] = {}
    for key, value in parameters.items():
        if key == _OF_THE_CODEC:
            continue
        if key.startswith(_RESERVED_PREFIX):
            raise InvalidArgument(
                f"parameter keys starting with '{_RESERVED_PREFIX}' are reserved and cannot be sent: got {shown(key)}"
            )
        if not isinstance(value, str | bool | int | float):
            raise wrong_type(f"parameter {shown(key)} of the request", "a string, a number or a boolean", value)
        kept[key] = value
    return kept
