"""Every datatype through every door: what goes in comes back, to the last bit, and the same way through each."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import ml_dtypes
import numpy as np
import pytest
from conformance.exchange import NUMPY, Asked, Named
from conformance.transports import TRANSPORTS, Transport, cases
from server_process import ServerProcess

from ortolan.inference.datatypes import DATATYPES

NAMES = [datatype.name for datatype in DATATYPES]
INTEGERS = [datatype.name for datatype in DATATYPES if datatype.is_integer]
FLOATS = [datatype.name for datatype in DATATYPES if datatype.is_float]

# The bits that make a number infinite, for which one bit more makes a NaN.
INFINITY = {"FP16": 0x7C00, "BF16": 0x7F80, "FP32": 0x7F800000, "FP64": 0x7FF0000000000000}


@pytest.fixture(scope="module")
def transports(conformance_server: ServerProcess) -> Iterator[Mapping[str, Transport]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(make(conformance_server)) for name, make in TRANSPORTS.items()}


CASES = cases(NAMES)


def identity(datatype: str, array: np.ndarray, model: str = "any") -> Asked:
    return Asked(f"{model}_{datatype.lower()}", (Named("x", datatype, array),))


def extremes(datatype: str) -> np.ndarray:
    """The least, the largest and the oddest values, in two rows."""
    kind = NUMPY[datatype]
    if datatype == "BOOL":
        values = np.array([True, False, False, True])
    elif datatype == "BYTES":
        values = np.array([b"plain", "größer 数 🐦 \u2028".encode(), b"", b'quote" \\ \n \t \x7f nul\0'], kind)
    elif datatype in INTEGERS:
        limits = np.iinfo(kind)
        values = np.array([limits.min, limits.max, 0, 1, limits.max - 1, limits.min + 1], kind)
    else:
        about = ml_dtypes.finfo(kind)
        odd = [np.inf, -np.inf, np.nan, -0.0, 0.0, 0.1, 1 / 3, 1]
        values = np.array([*odd, about.max, about.min, about.tiny, about.smallest_subnormal]).astype(kind)
    return values.reshape(2, -1)


def anything(datatype: str) -> np.ndarray:
    """Values all over the datatype's range; NaNs are those that JSON can say, texts are characters."""
    random = np.random.default_rng(7)
    kind = NUMPY[datatype]
    if datatype == "BOOL":
        return random.random((5, 7)) < 0.5
    if datatype == "BYTES":
        texts = ["".join(map(chr, random.integers(0, 0xD800, size))).encode() for size in range(35)]
        return np.array(texts, np.object_).reshape(5, 7)
    values = random.integers(0, 256, 35 * kind.itemsize, np.uint8).view(kind).reshape(5, 7)
    if datatype in FLOATS:
        values[np.isnan(values)] = np.nan
    return values


@pytest.mark.parametrize(("transport", "datatype"), CASES)
def test_extreme_values_come_back_bit_for_bit(
    transports: Mapping[str, Transport], transport: str, datatype: str
) -> None:
    asked = identity(datatype, extremes(datatype))
    answered = transports[transport].ask(asked)
    assert answered.only.elements == asked.inputs[0].elements
    assert (answered.only.name, answered.model, answered.version) == ("y", asked.model, "1")


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize(("transport", "datatype"), CASES)
def test_a_tensor_without_elements_keeps_its_shape(
    transports: Mapping[str, Transport], transport: str, datatype: str, shape: tuple[int, ...]
) -> None:
    asked = identity(datatype, np.empty(shape, NUMPY[datatype]))
    assert transports[transport].ask(asked).only.elements == asked.inputs[0].elements


@pytest.mark.parametrize(("transport", "datatype"), CASES)
def test_a_scalar_of_the_graph_is_one_element_to_clients(
    transports: Mapping[str, Transport], transport: str, datatype: str
) -> None:
    asked = identity(datatype, extremes(datatype).ravel()[:1], "scalar")
    assert transports[transport].ask(asked).only.elements == asked.inputs[0].elements


@pytest.mark.parametrize("datatype", NAMES)
def test_every_door_gives_the_same_tensor_bit_for_bit(transports: Mapping[str, Transport], datatype: str) -> None:
    asked = identity(datatype, anything(datatype))
    came = {name: transports[name].ask(asked).only.elements for name, _ in cases([datatype])}
    assert {name for name, elements in came.items() if elements != asked.inputs[0].elements} == set()


@pytest.mark.parametrize("datatype", FLOATS)
def test_the_bits_of_a_nan_survive_where_bytes_are_sent(transports: Mapping[str, Transport], datatype: str) -> None:
    word = np.dtype(f"u{NUMPY[datatype].itemsize}")
    last = INFINITY[datatype]
    negative = 1 << (8 * word.itemsize - 1)
    # Quiet and signalling ones, with a payload and with a sign.
    bits = np.array([last + 1, last + 3, last | negative | 5, last | (last >> 1) | 1], word)
    array = bits.view(NUMPY[datatype]).reshape(2, 2)
    for name, _ in cases([datatype]):
        came = transports[name].ask(identity(datatype, array)).only.array
        if transports[name].binary:
            assert came.view(word).ravel().tolist() == bits.tolist(), name
        else:
            assert np.isnan(came).all(), name


@pytest.mark.parametrize(
    "elements",
    [
        [b"\0", b"\0\0", b"a\0b", b"\0end\0"],
        [b"\xff\xfe\x80", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"],
        ["\U0010ff80 \U0010ffff".encode(), "\ue000".encode(), b"\xef\xbf\xbd", b"\x80\xf4\x8f\xbe\x80"],
        [bytes(range(256)), b"", b"x" * 70_000, b"\x01\0\0\0"],
    ],
    ids=["NUL", "not UTF-8", "private use and replacement characters", "all bytes"],
)
def test_texts_are_arbitrary_bytes(transports: Mapping[str, Transport], elements: list[bytes]) -> None:
    asked = identity("BYTES", np.array(elements, np.object_).reshape(2, 2))
    for name, door in transports.items():
        if door.binary:
            assert door.ask(asked).only.elements == asked.inputs[0].elements, name


def test_random_bytes_are_texts_too(transports: Mapping[str, Transport]) -> None:
    random = np.random.default_rng(11)
    elements = [random.bytes(size) for size in random.integers(0, 40, 400)]
    asked = identity("BYTES", np.array(elements, np.object_).reshape(20, 20))
    for name, door in transports.items():
        if door.binary:
            assert door.ask(asked).only.elements == asked.inputs[0].elements, name
