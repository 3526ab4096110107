"""The binary parts that follow the JSON of a request: where they begin, and which bytes belong to which input."""

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import Datatype
from ortolan.protocol.json_fields import shown, wrong_type

_MAX_LENGTH_DIGITS = 18


def json_size(header_length: str, body_size: int) -> int:
    """The JSON's length that the header's text gives; raises InvalidArgument unless it is in a body of that size."""
    if not (header_length.isascii() and header_length.isdigit()):
        raise InvalidArgument(f"inference header size should be a decimal number, got: {shown(header_length)}")
    digits = header_length.lstrip("0")
    size = int(digits or "0") if len(digits) <= _MAX_LENGTH_DIGITS else body_size + 1
    if not 0 < size <= body_size:
        raise InvalidArgument(
            f"inference header size should be in range (0, {body_size}), got: {header_length[:_MAX_LENGTH_DIGITS]}"
        )
    return size


class BinaryParts:
    """What follows the JSON, given out part by part in the order of the inputs."""

    __slots__ = ("_model_name", "_offset", "body")

    def __init__(self, body: bytes | memoryview, offset: int, model_name: str) -> None:
        self.body = body
        self._offset = offset
        self._model_name = model_name

    def take(self, size: object, count: int, datatype: Datatype, name: str) -> tuple[int, int]:
        """Offset and size of the next part, which the JSON says is ``size`` bytes for ``count`` elements."""
        if type(size) is not int:
            raise wrong_type(f"'binary_data_size' of input '{name}'", "an integer", size)
        expected = count * datatype.size_bytes
        if size != expected and (datatype is not datatypes.BYTES or size < 0):
            wanted = "at least 0" if datatype is datatypes.BYTES else expected
            raise InvalidArgument(
                f"input byte size mismatch for input '{name}' for model '{self._model_name}'. "
                f"Expected {wanted}, got {size}"
            )
        offset = self._offset
        missing = offset + size - len(self.body)
        if missing > 0:
            raise InvalidArgument(
                f"unexpected size for input '{name}', expecting {missing} additional bytes for model "
                f"'{self._model_name}'"
            )
        self._offset = offset + size
        return offset, size

    def refuse_rest(self) -> None:
        rest = len(self.body) - self._offset
        if rest:
            raise InvalidArgument(
                f"unexpected additional input data for model '{self._model_name}': {rest} bytes are left after the "
                "last input"
            )
