"""What is sent, read by the server's own codecs."""

import numpy as np
import pytest

from ortolan.bench.inputs import random_inputs
from ortolan.bench.load import Address, Form
from ortolan.bench.prepared_requests import prepared
from ortolan.bench.served_model import ModelInput, ServedModel
from ortolan.errors import StartupError
from ortolan.inference.datatypes import BY_NAME, DATATYPES
from ortolan.inference.request import Tensor
from ortolan.protocol.json_codec import decode_request
from ortolan.protocol.protobuf_codec import decode_request as decode_message

ADDRESS = Address("localhost", 8000)
EVERY = ServedModel("m", ("1",), tuple(ModelInput(each.name, each, (-1, 3)) for each in DATATYPES), "", 8)


def model(*shape: int, datatype: str = "FP32", max_batch_size: int | None = None) -> ServedModel:
    return ServedModel("m", ("1",), (ModelInput("x", BY_NAME[datatype], shape),), "", max_batch_size)


@pytest.mark.parametrize("form", list(Form))
def test_every_datatype_arrives_as_it_was(form: Form) -> None:
    inputs = random_inputs(EVERY, 2, {}, 1)[0]
    request = prepared(form, ADDRESS, "m", inputs)
    if form is Form.GRPC:
        arrived = decode_message(request.body[5:]).inputs
    else:
        lines = dict(line.split(": ", 1) for line in request.head.decode().strip().split("\r\n")[1:])
        assert int(lines["Content-Length"]) == len(request.body)
        arrived = decode_request("m", "", request.body, lines.get("Inference-Header-Content-Length")).inputs
    assert [_comparable(each) for each in arrived] == [_comparable(each) for each in inputs]


def _comparable(tensor: Tensor) -> tuple[object, ...]:
    return tensor.name, tensor.datatype, tuple(tensor.shape), np.asarray(tensor.array).tolist()


@pytest.mark.parametrize(
    ("declared", "rows", "given", "expected"),
    [
        (model(-1, 4), 1, {}, (1, 4)),
        (model(-1, 4), 8, {}, (8, 4)),
        (model(-1, 4, max_batch_size=0), 8, {}, (1, 4)),  # its first size may vary, but it does not batch
        (model(2, 4), 8, {}, (2, 4)),
        (model(-1, -1), 2, {"x": (1, 7)}, (2, 7)),
        (model(), 2, {}, ()),
    ],
)
def test_shapes_follow_the_declaration(
    declared: ServedModel, rows: int, given: dict[str, tuple[int, ...]], expected: tuple[int, ...]
) -> None:
    assert random_inputs(declared, rows, given, 1)[0][0].array.shape == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [({"y": (1, 4)}, "no input 'y'; it has x"), ({"x": (1, 5)}, "does not fit"), ({"x": (4,)}, "does not fit")],
)
def test_a_shape_that_does_not_fit_is_refused(given: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        random_inputs(model(-1, 4), 1, given, 1)


def test_requests_differ_and_large_ones_are_few() -> None:
    small, large = random_inputs(model(-1, 4), 1, {}, 1), random_inputs(model(-1, 4 << 20), 1, {}, 1)
    assert len(small) == 8
    assert len(large) == 2
    assert not np.array_equal(small[0][0].array, small[1][0].array)
