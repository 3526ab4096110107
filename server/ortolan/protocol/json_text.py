"""A document with numpy arrays in it → JSON text, where NaN and infinities are the tokens that Triton writes."""

import json
import math

import numpy as np
import orjson

from ortolan.protocol.json_tensors import with_non_finite_tokens


def json_text(document: object) -> bytes:
    """The text of ``document``: objects and arrays of JSON values, numpy numbers and C-contiguous numpy arrays."""
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    # As in json_codec: orjson writes what is not finite as null, and most answers are finite.
    if b"null" not in text:
        return text
    return orjson.dumps(_with_tokens(document), option=orjson.OPT_SERIALIZE_NUMPY)


def _with_tokens(value: object) -> object:
    match value:
        case dict():
            return {key: _with_tokens(member) for key, member in value.items()}
        case list():
            return [_with_tokens(element) for element in value]
        case float() | np.floating() if not math.isfinite(value):
            return orjson.Fragment(json.dumps(float(value)))
    return with_non_finite_tokens(value)
