"""What is fuzzed of BYTES: elements behind their lengths, as they come over both protocols and out of shared memory.

The first byte says how many elements are asked for.
"""

import struct
from collections.abc import Iterator
from random import Random

import numpy as np

from ortolan.inference.bytes_elements import decode_elements, encode_elements
from ortolan.inference.datatypes import Array

_LENGTHS = (0, 1, 2, 3, 4, 5, 255, 256, 2**31 - 1, 2**31, 2**32 - 5, 2**32 - 4, 2**32 - 1)


def read(data: bytes) -> Array:
    return decode_elements(memoryview(data)[1:], data[0] if data else 0, "x")


def verify(found: Array, data: bytes) -> None:
    elements = found.tolist()
    assert len(elements) == (data[0] if data else 0)
    assert all(type(element) is bytes for element in elements)
    assert sum(map(len, elements)) + 4 * len(elements) == max(len(data) - 1, 0)
    assert encode_elements(found) == data[1:]


def tensors() -> Iterator[bytes]:
    for count in (0, 1, 2, 3, 7, 100, 255):
        for element in (b"", b"a", b"\xff\0\xff", b"\x04\0\0\0", b"x" * 30):
            yield bytes([count]) + encode_elements(np.array([element] * count, np.object_))


def altered(data: bytes, random: Random) -> bytes | None:
    """One length altered, or another count asked for."""
    places = [1]
    while places[-1] + 4 <= len(data):
        places.append(places[-1] + 4 + struct.unpack_from("<I", data, places[-1])[0])
    if random.random() < 0.3:
        return bytes([random.randrange(256)]) + data[1:]
    at = random.choice(places)
    return data[:at] + struct.pack("<I", random.choice(_LENGTHS)) + data[at + 4 :]
