"""The tensor datatypes, in one table: protocol name ⇄ numpy ⇄ ONNX ⇄ ``TYPE_*`` of the model configuration.

BF16 has no numpy type of its own: its elements travel as their 16 bits in ``uint16`` arrays, and ``bf16_from_float32``
and ``float32_from_bf16`` convert. BYTES tensors are object arrays whose elements are ``bytes``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One row of the table. ``size_bytes`` is 0 for BYTES, whose elements differ in size."""

    name: str
    """The name on the wire: ``FP32``."""
    numpy: np.dtype[np.generic]
    """How an array of it is stored here, always little-endian: ``<f4``."""
    size_bytes: int
    onnx_element_type: int
    """``TensorProto.DataType`` of ONNX."""
    onnx_type: str
    """As ONNX Runtime prints it: ``tensor(float)``."""
    config_name: str
    """As ``config.pbtxt`` has it: ``TYPE_FP32``."""
    config_number: int

    def __repr__(self) -> str:
        return f"Datatype({self.name})"

    @property
    def is_integer(self) -> bool:
        return self.numpy.kind in "iu" and self.name != "BF16"

    @property
    def is_float(self) -> bool:
        return self.numpy.kind == "f" or self.name == "BF16"


def _row(name: str, numpy: str, size: int, element: int, onnx: str, config: str, number: int) -> Datatype:
    return Datatype(name, np.dtype(numpy), size, element, f"tensor({onnx})", f"TYPE_{config}", number)


# name, numpy, bytes, ONNX element type, ONNX Runtime's word, configuration's word and number
BOOL = _row("BOOL", "?", 1, 9, "bool", "BOOL", 1)
UINT8 = _row("UINT8", "u1", 1, 2, "uint8", "UINT8", 2)
UINT16 = _row("UINT16", "<u2", 2, 4, "uint16", "UINT16", 3)
UINT32 = _row("UINT32", "<u4", 4, 12, "uint32", "UINT32", 4)
UINT64 = _row("UINT64", "<u8", 8, 13, "uint64", "UINT64", 5)
INT8 = _row("INT8", "i1", 1, 3, "int8", "INT8", 6)
INT16 = _row("INT16", "<i2", 2, 5, "int16", "INT16", 7)
INT32 = _row("INT32", "<i4", 4, 6, "int32", "INT32", 8)
INT64 = _row("INT64", "<i8", 8, 7, "int64", "INT64", 9)
FP16 = _row("FP16", "<f2", 2, 10, "float16", "FP16", 10)
FP32 = _row("FP32", "<f4", 4, 1, "float", "FP32", 11)
FP64 = _row("FP64", "<f8", 8, 11, "double", "FP64", 12)
BYTES = _row("BYTES", "O", 0, 8, "string", "STRING", 13)
BF16 = _row("BF16", "<u2", 2, 16, "bfloat16", "BF16", 14)

DATATYPES = (BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES, BF16)
BY_NAME = {datatype.name: datatype for datatype in DATATYPES}
BY_CONFIG_NUMBER = {datatype.config_number: datatype for datatype in DATATYPES}
BY_CONFIG_NAME = {datatype.config_name: datatype for datatype in DATATYPES}
BY_ONNX_TYPE = {datatype.onnx_type: datatype for datatype in DATATYPES}


def bf16_from_float32(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The 16 bits of each value, rounded to nearest even as hardware does; a NaN stays a NaN. Keeps the shape."""
    floats = np.ascontiguousarray(values, np.float32)
    bits = floats.view(np.uint32)
    # Only a NaN can wrap around here, and NaNs are written anew below.
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    nan = np.isnan(floats)
    if nan.any():
        rounded[nan] = (bits[nan] >> 16) | 0x40
    # A scalar became one-dimensional on the way.
    return rounded.reshape(np.shape(values))


def float32_from_bf16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The exact value of each BF16 element given as its 16 bits. Keeps the shape."""
    wide = np.ascontiguousarray(bits).astype(np.uint32) << 16
    return wide.view(np.float32).reshape(np.shape(bits))
