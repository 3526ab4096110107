"""What is to be known of a model's file without loading it: its hash, and operators that change how it may be run."""

import re
from dataclasses import dataclass

from ortolan.repository.external_data import MARKS

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


class FactsReader:
    """Reads the facts of a model's file as its content goes by."""

    def __init__(self) -> None:
        self._loops = self._mixes_rows = False
        self._overlap = b""
        self.names_files = False
        """Whether the content may name further files."""

    def update(self, chunk: bytes) -> None:
        """The next part of the content."""
        # The seam is looked at apart: to put the whole chunk behind it would copy every byte once more.
        self._look_into(self._overlap + chunk[:_LONGEST])
        self._look_into(chunk)
        self._overlap = (self._overlap + chunk[-_LONGEST:])[-_LONGEST:]

    def _look_into(self, window: bytes) -> None:
        for node in _NODE.finditer(window):
            self._loops |= node[1] is not None
            self._mixes_rows |= node[1] is None
        self.names_files = self.names_files or any(mark in window for mark in MARKS)

    def facts(self, sha256: str) -> ModelFacts:
        """The facts of what has gone by, whose hash is ``sha256``."""
        return ModelFacts(sha256, self._loops, self._mixes_rows)
