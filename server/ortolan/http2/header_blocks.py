"""Blocks of header fields ⇄ lists of them (RFC 7541)."""

import re
from collections.abc import Iterable

import hpack
from hpack.table import HeaderTable

from ortolan.http2.faults import ConnectionFault, ErrorCode
from ortolan.http2.limits import Http2Limits

Field = tuple[bytes, bytes]

_HARD_LIMIT_FACTOR = 4
# Of blocks that were decoded already: 64 KiB of fields are the blocks of a hundred different calls.
_REMEMBERED_BYTES = 65_536
_FIELD_OVERHEAD = 32
_MOST_SIZE_UPDATES = 2
# Larger ones are not: what only looks like a block that comes again must not push out those that do.
_REMEMBERED_BLOCK_BYTES = _REMEMBERED_BYTES // 8
# What decoding costs: so many fields, or bytes of Huffman's code, as much as two small frames.
_FIELDS_PER_EFFORT = 16
_HUFFMAN_BYTES_PER_EFFORT = 128
_EFFORTLESS_BYTES = 64


class HeaderList:
    """The fields of one block, in their order. Equal blocks of one connection may share one list.

    ``meaning`` is its reader's: what it made of the fields, so that it need not do so again.
    """

    __slots__ = ("content_length", "fields", "has_request", "is_request", "malformed", "meaning", "too_large")

    def __init__(self, fields: tuple[Field, ...], too_large: bool) -> None:
        self.fields = fields
        self.too_large = too_large
        self.malformed = _malformed(fields)
        self.meaning: object = None
        names = dict(fields)
        self.has_request = any(name.startswith(b":") for name in names)
        """Whether there are fields that only begin a request, and do not follow its data."""
        self.is_request = names.keys() >= _REQUEST
        """Whether none is missing of those that a request must have."""
        self.content_length = _number(names[b"content-length"]) if b"content-length" in names else None
        """What ``content-length`` says; -1 for what is no number."""


_REQUEST = {b":method", b":scheme", b":path"}


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 20 else -1


_FORBIDDEN = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_NAME = re.compile(rb":?[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[^\0\r\n]*")


def _malformed(fields: tuple[Field, ...]) -> str:
    """What is wrong with a request's fields (RFC 9113, section 8.2 and 8.3); "" for nothing."""
    seen: set[bytes] = set()
    plain = False
    length: bytes | None = None
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return "a field's name or value has characters that it must not have"
        if name in _FORBIDDEN or (name == b"te" and value != b"trailers"):
            return "a field that HTTP/2 does not have"
        if name.startswith(b":"):
            if plain or name in seen or name not in (b":method", b":scheme", b":path", b":authority"):
                return "pseudo-fields that are unknown, twice, or behind others"
            if name == b":path" and not value:
                return "an empty path"
            seen.add(name)
        else:
            plain = True
            if name == b"content-length":
                if length not in (None, value):
                    return "two different lengths"
                length = value
    return ""


class HeaderReader:
    """Decodes one connection's blocks.

    A client's requests are mostly the same bytes again and again, all of them references into the table that both sides
    keep. What such a block means changes only with that table, so that it is decoded once: 0.1 µs instead of 30.
    """

    def __init__(self, limits: Http2Limits) -> None:
        self._limit = limits.header_list_bytes
        self._table = _WatchedTable()
        self._decoder = hpack.Decoder(limits.header_list_bytes * _HARD_LIMIT_FACTOR)
        self._decoder.header_table = self._table
        self._remembered: dict[bytes, HeaderList] = {}
        self._remembered_bytes = 0

    def read(self, block: bytes) -> tuple[HeaderList, int]:
        """The fields, and what decoding them cost: 0 for the usual, and for what is remembered.

        Raises ConnectionFault for a block that cannot be decoded, after which no other can.
        """
        found = self._remembered.get(block)
        if found is not None:
            return found, 0
        changes = self._table.changes
        resized = _size_updates(block)
        try:
            fields = tuple((bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header fields take too much room") from None
        except hpack.HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the header fields cannot be decoded") from None
        size = sum([len(name) + len(value) for name, value in fields]) + _FIELD_OVERHEAD * len(fields)
        result = HeaderList(fields, size > self._limit)
        if resized or self._table.changes != changes:
            self._remembered.clear()
            self._remembered_bytes = 0
        elif len(block) + size <= _REMEMBERED_BLOCK_BYTES:
            self._remember(block, result, len(block) + size)
        return result, _effort(block, len(fields))

    def _remember(self, block: bytes, result: HeaderList, size: int) -> None:
        self._remembered_bytes += size
        if self._remembered_bytes > _REMEMBERED_BYTES:
            self._remembered.clear()
            self._remembered_bytes = size
        self._remembered[block] = result


def _effort(block: bytes, fields: int) -> int:
    """What decoding ``block``, which has so many ``fields``, cost. It can be decoded."""
    if len(block) < _EFFORTLESS_BYTES:
        return 0
    return fields // _FIELDS_PER_EFFORT + _huffman_bytes(block) // _HUFFMAN_BYTES_PER_EFFORT


def _huffman_bytes(block: bytes) -> int:
    """How many bytes of ``block`` are in Huffman's code, which takes a hundred times as long as others."""
    at = found = 0
    while at < len(block):
        first = block[at]
        if first & 0xE0 == 0x20:
            at = _after_integer(block, at, 0x1F)[1]
        elif first & 0x80:
            at = _after_integer(block, at, 0x7F)[1]
        else:
            index, at = _after_integer(block, at, 0x3F if first & 0x40 else 0x0F)
            for _ in range(1 if index else 2):
                packed = block[at] & 0x80
                size, at = _after_integer(block, at, 0x7F)
                at += size
                found += size if packed else 0
    return found


def _after_integer(block: bytes, at: int, most: int) -> tuple[int, int]:
    """The integer in the bits ``most`` of the byte at ``at`` and those behind it, and where it ends."""
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    shift = 0
    while True:
        number += (block[at] & 0x7F) << shift
        shift += 7
        at += 1
        if block[at - 1] < 0x80:
            return number, at


def _size_updates(block: bytes) -> bool:
    """Whether ``block`` begins with a change of the table's size. Raises ConnectionFault for more than make sense."""
    at = count = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        count += 1
        if count > _MOST_SIZE_UPDATES:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "too many changes of the table's size")
        goes_on = block[at] & 0x1F == 0x1F
        at += 1
        while goes_on and at < len(block):
            goes_on = block[at] >= 0x80
            at += 1
    return count > 0


class _WatchedTable(HeaderTable):
    """The decoder's table of fields, with a count of what was added to it."""

    def __init__(self) -> None:
        self.changes = 0
        super().__init__()

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


_STATIC_NAMES = {name: index for index, (name, _) in reversed([*enumerate(HeaderTable.STATIC_TABLE, 1)])}
_STATIC_FIELDS = {field: index for index, field in enumerate(HeaderTable.STATIC_TABLE, 1) if field[1]}


def encode(fields: Iterable[Field]) -> bytes:
    """A block that means the same on every connection: it neither uses nor changes the table that both sides keep."""
    return b"".join([_encoded(name, value) for name, value in fields])


def _encoded(name: bytes, value: bytes) -> bytes:
    index = _STATIC_FIELDS.get((name, value))
    if index is not None:
        return _integer(index, 0x80, 0x7F)
    index = _STATIC_NAMES.get(name, 0)
    begin = _integer(index, 0x00, 0x0F)
    return b"".join([begin, b"" if index else _text(name), _text(value)])


def _text(data: bytes) -> bytes:
    return _integer(len(data), 0x00, 0x7F) + data


def _integer(number: int, flags: int, most: int) -> bytes:
    """``number`` behind ``flags``, in as many bits of the first byte as ``most`` has (RFC 7541, section 5.1)."""
    if number < most:
        return bytes((flags | number,))
    encoded = [flags | most]
    number -= most
    while number >= 0x80:
        encoded.append(0x80 | (number & 0x7F))
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
