"""What is to be known of a model's file without loading it: its hash, and operators that change how it may be run."""

import re
from dataclasses import dataclass

from ortolan.repository.external_data import MARKS
from ortolan.repository.weight_skipping import WeightSkipper

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
# No other thread runs Python while one looks through a step.
_STEP = 1 << 16


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """``sha256`` in hexadecimal. ``loops``: its cost may depend on its inputs' values, by a loop or by the size of what
    it makes. ``mixes_rows``: it takes the scale of a quantisation from the whole batch, so that a row's answer depends
    on its neighbours. ``confidential``: its file is encrypted, so nothing of its content may be written anywhere;
    ``sha256`` is then that of the encrypted file."""

    sha256: str
    loops: bool
    mixes_rows: bool
    confidential: bool = False


class FactsReader:
    """Reads the facts of a model's file as its content goes by, without its weights."""

    def __init__(self) -> None:
        self._loops = self._mixes_rows = False
        self._skipper = WeightSkipper()
        self._overlap = b""
        self.names_files = False
        """Whether the content may name further files."""

    def update(self, chunk: bytes) -> None:
        """The next part of the content."""
        for start, end in self._skipper.spans(chunk):
            # The seam is looked at apart: to put the whole part behind it would copy every byte once more.
            seam = self._overlap + chunk[start : min(end, start + _LONGEST)]
            self._look_into(seam, 0, len(seam))
            for step in range(start, end, _STEP):
                self._look_into(chunk, max(start, step - _LONGEST), min(end, step + _STEP))
            self._overlap = (self._overlap + chunk[max(start, end - _LONGEST) : end])[-_LONGEST:]

    def _look_into(self, content: bytes, start: int, end: int) -> None:
        for node in _NODE.finditer(content, start, end):
            self._loops |= node[1] is not None
            self._mixes_rows |= node[1] is None
        self.names_files = self.names_files or any(content.find(mark, start, end) >= 0 for mark in MARKS)

    def facts(self, sha256: str) -> ModelFacts:
        """The facts of what has gone by, whose hash is ``sha256``."""
        return ModelFacts(sha256, self._loops, self._mixes_rows)
