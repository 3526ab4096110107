"""Messages of errors as gRPC can carry them."""

from ortolan.inference.printable import CONTROL_ESCAPES

# A status travels in a header, percent-encoded; clients refuse headers of more than 8 KiB in all, with another status.
_MOST_ENCODED_BYTES = 4096
_CUT = "..."
# Messages of failed loads have line feeds, as Triton's do.
_ESCAPES = {code: escape for code, escape in CONTROL_ESCAPES.items() if code != ord("\n")}


def sendable(message: str) -> str:
    """``message`` with control characters but line feeds escaped, and cut where it would take too much in a header."""
    text = message.translate(_ESCAPES).encode(errors="replace").decode()
    if len(text) * 12 <= _MOST_ENCODED_BYTES:
        return text
    size = 0
    end = 0
    for index, character in enumerate(text):
        size += _encoded_bytes(character)
        if size <= _MOST_ENCODED_BYTES - len(_CUT):
            end = index + 1
        elif size > _MOST_ENCODED_BYTES:
            return text[:end] + _CUT
    return text


def _encoded_bytes(character: str) -> int:
    """Each byte but those of printable ASCII, and "%" itself, becomes three."""
    if " " <= character <= "~" and character != "%":
        return 1
    return 3 * len(character.encode())
