"""Responses that differ in their elements are written as if all of them were written anew."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import Datatype
from ortolan.inference.request import InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from ortolan.protocol import json_codec, protobuf_codec
from ortolan.protocol.answer_frame import AnswerFrame
from ortolan.protocol.message_frame import MessageFrame

KINDS = [each for each in datatypes.DATATYPES if each is not datatypes.BYTES]
SHAPES = [(), (0,), (1, 3), (2, 1), (40, 120)]


def tensor(name: str, datatype: Datatype, shape: tuple[int, ...], seed: int) -> Tensor:
    numbers = np.random.default_rng(seed).integers(0, 2, shape).astype(datatype.numpy)
    array = np.asarray(numbers)
    if array.dtype.kind == "f" and array.size > 1:
        array.reshape(-1)[seed % array.size] = np.nan
    return Tensor(name, datatype, shape, array)


def response(outputs: list[Tensor], request_id: str) -> InferenceResponse:
    return InferenceResponse('m"[]', "1", request_id, tuple(outputs))


outputs = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(SHAPES), st.booleans()), min_size=1, max_size=4)
ids = st.sampled_from(["", "a", '"data":[]', "é\n"])


@given(outputs, ids, st.booleans())
@example([(datatypes.FP32, (0,), True)], "", True)
@example([(datatypes.FP32, (0,), False)], "", False)
def test_http_answers_are_the_usual_ones(
    asked: list[tuple[Datatype, tuple[int, ...], bool]], request_id: str, binary_by_default: bool
) -> None:
    names = [f'y{number}"data":[]' for number in range(len(asked))]
    listed = tuple(RequestedOutput(name, binary) for name, (_, _, binary) in zip(names, asked, strict=True))
    request = InferenceRequest("m", outputs=listed[1:], binary_by_default=binary_by_default)

    def answer(seed: int) -> InferenceResponse:
        made = [tensor(name, kind, shape, seed) for name, (kind, shape, _) in zip(names, asked, strict=True)]
        return response(made, request_id)

    frame = AnswerFrame(answer(0), request)
    for seed in (0, 1, 2):
        usual = json_codec.encode_response(answer(seed), request)
        found = frame.encoded([each.array for each in answer(seed).outputs])
        assert (found.body, found.header_length) == (usual.body, usual.header_length)


@given(outputs, ids)
def test_grpc_answers_are_the_usual_ones(asked: list[tuple[Datatype, tuple[int, ...], bool]], request_id: str) -> None:
    def answer(seed: int) -> InferenceResponse:
        made = [tensor(f"y{n}", kind, shape, seed) for n, (kind, shape, _) in enumerate(asked)]
        return response(made, request_id)

    frame = MessageFrame(answer(0))
    for seed in (0, 1, 2):
        found = frame.encoded([each.array for each in answer(seed).outputs])
        assert _joined(found) == _joined(protobuf_codec.encode_response(answer(seed)))


def test_an_answer_that_no_message_can_hold_is_refused() -> None:
    array = np.zeros(protobuf_codec.MAX_MESSAGE_BYTES // 8 + 1, "<i8")  # never written to, so it takes no memory
    with pytest.raises(InvalidArgument, match="that one gRPC message can hold"):
        MessageFrame(response([Tensor("y", datatypes.INT64, array.shape, array)], ""))


def _joined(message: object) -> bytes:
    return message if isinstance(message, bytes) else b"".join(message)  # type: ignore[arg-type]
