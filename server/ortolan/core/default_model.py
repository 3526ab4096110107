"""Which model is meant where a request names none: the only one. Pure."""

from collections.abc import Collection, Sequence

from ortolan.errors import InvalidArgument, NotFound

_WHICH = "--sagemaker-default-model (SAGEMAKER_TRITON_DEFAULT_MODEL_NAME) or --vertex-ai-default-model"


def default_model(names: Sequence[str], used: Collection[str]) -> str:
    """The only one of ``names`` but for those that ensembles use, unless they are all there is.

    Raises InvalidArgument where that leaves several, NotFound where there are none. Who asks may know no other model,
    so that none is named.
    """
    chiefs = [name for name in names if name not in used] or list(names)
    if not chiefs:
        raise NotFound("no model is served")
    if len(chiefs) > 1:
        raise InvalidArgument(
            f"{len(chiefs)} models are served, and the request names none; the server can be told by {_WHICH} which "
            "one is meant"
        )
    return chiefs[0]
