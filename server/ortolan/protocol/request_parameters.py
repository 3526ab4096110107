"""How many parameters requests and their tensors may have: one refusal for JSON and for gRPC."""

from ortolan.errors import InvalidArgument


def too_many_parameters(owner: str, count: int, at_most: int) -> InvalidArgument:
    """The refusal of ``count`` parameters of ``owner``, which may have ``at_most``."""
    return InvalidArgument(f"{owner} has {count} parameters, at most {at_most} are accepted")
