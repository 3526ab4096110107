"""Requests that are remembered are decoded as if they were not."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference.request import InferenceRequest
from ortolan.protocol import json_codec, protobuf_codec
from ortolan.protocol.protobuf_messages import ModelInferRequest
from ortolan.protocol.remembered_json import RememberedJson
from ortolan.protocol.remembered_messages import RememberedMessages


def as_json(rows: np.ndarray, **more: object) -> tuple[bytes, str]:
    """A body with the rows as binary data, and its header."""
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(rows.shape),
        "parameters": {"binary_data_size": rows.nbytes},
    }
    text = json.dumps({"inputs": [tensor], **more}).encode()
    return text + rows.astype("<f4").tobytes(), str(len(text))


def as_message(rows: np.ndarray, **more: object) -> bytes:
    message = ModelInferRequest(model_name="m", **more)
    message.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    message.raw_input_contents.append(rows.astype("<f4").tobytes())
    encoded: bytes = message.SerializeToString()
    return encoded


def same(found: InferenceRequest, expected: InferenceRequest) -> None:
    assert [tensor.array.tolist() for tensor in found.inputs] == [tensor.array.tolist() for tensor in expected.inputs]
    for tensor, other in zip(found.inputs, expected.inputs, strict=True):
        assert (tensor.name, tensor.datatype, tensor.shape) == (other.name, other.datatype, other.shape)
        assert tensor.array.dtype == other.array.dtype
        assert tensor.array.flags.writeable == other.array.flags.writeable
    for name in ("model_name", "model_version", "id", "outputs", "parameters", "binary_by_default", "deadline_ns"):
        assert getattr(found, name) == getattr(expected, name)


shapes = st.tuples(st.integers(0, 3), st.integers(0, 4))
ids = st.sampled_from(["", "a", "b"])


@given(st.lists(st.tuples(shapes, ids, st.booleans(), st.sampled_from(["m", "n"])), max_size=12))
def test_json_is_decoded_as_ever(asked: list[tuple[tuple[int, int], str, bool, str]]) -> None:
    requests = RememberedJson()
    for number, (shape, request_id, binary, model) in enumerate(asked):
        rows = np.full(shape, number, np.float32)
        more = {"id": request_id} if request_id else {}
        body, length = as_json(rows, parameters={"binary_data_output": binary}, **more)
        same(requests.decode(model, "1", body, length), json_codec.decode_request(model, "1", body, length))


@given(st.lists(st.tuples(shapes, ids), max_size=12))
def test_messages_are_decoded_as_ever(asked: list[tuple[tuple[int, int], str]]) -> None:
    requests = RememberedMessages()
    for number, (shape, request_id) in enumerate(asked):
        data = as_message(np.full(shape, number, np.float32), id=request_id)
        same(requests.decode(data), protobuf_codec.decode_request(data))


def test_what_was_right_once_is_checked_again_when_its_body_has_another_length() -> None:
    requests = RememberedJson()
    body, length = as_json(np.ones((1, 4), np.float32))
    requests.decode("m", "", body, length)
    for other in (body[:-1], body + b"\0", body[: int(length)]):
        with pytest.raises(InvalidArgument):
            requests.decode("m", "", other, length)


def test_a_message_that_is_cut_off_or_goes_on_is_decoded_anew() -> None:
    requests = RememberedMessages()
    data = as_message(np.ones((1, 4), np.float32))
    requests.decode(data)
    for other in (data[:-1], data + b"\0", data[:-4] + b"\x3a\x00\x00\x00"[:3]):
        with pytest.raises(InvalidArgument):
            requests.decode(other)


def test_typed_contents_and_texts_are_decoded_each_time() -> None:
    typed = ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    texts = ModelInferRequest(model_name="m", raw_input_contents=[b"\1\0\0\0a"])
    texts.inputs.add(name="x", datatype="BYTES", shape=[1])
    requests = RememberedMessages()
    for message in (typed, typed, texts, texts):
        data = message.SerializeToString()
        same(requests.decode(data), protobuf_codec.decode_request(data))


@pytest.mark.parametrize(
    "decode",
    [
        lambda requests, number: requests[0].decode("m", "", *as_json(np.ones((1, 4), np.float32), id=f"{number}")),
        lambda requests, number: requests[1].decode(as_message(np.ones((1, 4), np.float32), id=f"{number}")),
    ],
    ids=["json", "messages"],
)
def test_ever_new_requests_take_no_more_memory(decode: Callable[..., InferenceRequest]) -> None:
    requests = RememberedJson(), RememberedMessages()
    for number in range(2000):
        assert decode(requests, number).id == str(number)
    assert len(requests[0]._known) <= 256
    assert len(requests[1]._known._known) <= 256
