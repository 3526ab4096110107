"""The parameters that a client sends with a request, in every JSON body that has any."""

from collections.abc import Mapping

from ortolan.errors import InvalidArgument
from ortolan.inference.request import MAX_PARAMETERS, Parameters, ParameterValue
from ortolan.protocol.json_fields import shown, wrong_type
from ortolan.protocol.request_parameters import too_many_parameters

RESERVED_PREFIX = "triton_"
# It says in which form outputs are wanted; who asks for one reads it before.
_OF_THE_CODEC = "binary_data_output"


def client_parameters(parameters: Mapping[str, object]) -> Parameters:
    """The parameters for the model and the scheduler.

    Raises InvalidArgument for more than ``MAX_PARAMETERS``, for keys that are reserved and for values that are no
    string, number or boolean.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise too_many_parameters("the request", len(parameters), MAX_PARAMETERS)
    kept: dict[str, ParameterValue] = {}
    for key, value in parameters.items():
        if key == _OF_THE_CODEC:
            continue
        if key.startswith(RESERVED_PREFIX):
            raise InvalidArgument(
                f"parameter keys starting with '{RESERVED_PREFIX}' are reserved and cannot be sent: got {shown(key)}"
            )
        if not isinstance(value, str | bool | int | float):
            raise wrong_type(f"parameter {shown(key)} of the request", "a string, a number or a boolean", value)
        kept[key] = value
    return kept
