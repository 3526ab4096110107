"""What is to be known of a model's file without loading it: its hash, and operators that change how it may be run."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ortolan.errors import InvalidArgument

# Operators whose cost may depend on the values of their inputs, and those that take one scale from the whole batch.
_LOOPS = ("Loop", "Scan", "If", "SequenceMap")
# These make tensors whose size is a value of an input.
_SIZED_BY_VALUES = (
    *("ConstantOfShape", "Range", "Expand", "Tile", "Resize", "Upsample", "Pad", "OneHot", "TopK", "NonMaxSuppression"),
    *(
        "EyeLike",
        "Multinomial",
        "RandomNormal",
        "RandomUniform",
        "CenterCropPad",
        "Col2Im",
        "AffineGrid",
        "STFT",
        "DFT",
    ),
    *("MelWeightMatrix", "HannWindow", "HammingWindow", "BlackmanWindow", "MaxUnpool", "SplitToSequence"),
)
_MIXES_ROWS = ("DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul")
_CHUNK = 1 << 20


def _nodes_of(operators: tuple[str, ...]) -> bytes:
    """How the operator of a node is written in the file: field 4 of NodeProto, its length, its name.

    Weights may hold the same bytes by accident; that costs such a model an optimisation, never a wrong answer.
    """
    return b"|".join(re.escape(bytes([len(operator)]) + operator.encode()) for operator in operators)


_NODE = re.compile(b'"(?:(' + _nodes_of(_LOOPS + _SIZED_BY_VALUES) + b")|" + _nodes_of(_MIXES_ROWS) + b")")
_LONGEST = 32


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """``sha256`` in hexadecimal. ``loops``: its cost may depend on its inputs' values, by a loop or by the size of what
    it makes. ``mixes_rows``: it takes the scale of a quantisation from the whole batch, so that a row's answer depends
    on its neighbours."""

    sha256: str
    loops: bool
    mixes_rows: bool


def read_facts(model: Path) -> ModelFacts:
    """The facts of the file ``model``, read once. Raises InvalidArgument when it cannot be read."""
    sha256 = hashlib.sha256()
    loops = mixes_rows = False
    overlap = b""
    try:
        # Read, not mapped: a mapped file that shrinks meanwhile kills the process.
        with model.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                for node in _NODE.finditer(overlap + chunk):
                    loops |= node[1] is not None
                    mixes_rows |= node[1] is None
                overlap = chunk[-_LONGEST:]
    except OSError as error:
        raise InvalidArgument(f"the model's file cannot be read: {error.strerror}") from error
    return ModelFacts(sha256.hexdigest(), loops, mixes_rows)
