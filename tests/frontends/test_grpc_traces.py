"""A traced request whose answer cannot be encoded, which only one of more than 2 GiB shows."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.trace_settings import TIMESTAMPS, TraceSettings
from ortolan.core.tracing import FrontendTrace, Tracing
from ortolan.errors import InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.inference_stream import InferenceStreams
from ortolan.frontends.grpc.service import InferenceService
from ortolan.inference.datatypes import UINT8
from ortolan.inference.request import InferenceRequest, InferenceResponse, Tensor
from ortolan.protocol import protobuf_messages as messages

REQUEST = messages.ModelInferRequest(model_name="m").SerializeToString()


class HugeAnswers(InferenceCore):
    """Answers with more than one message can hold: memory that no one touches, so none is taken."""

    async def infer(self, request: InferenceRequest, frontend: FrontendTrace | None = None) -> InferenceResponse:
        with self.tracing.following(request, 1, frontend):
            array = np.zeros(2**31, np.uint8)
            return InferenceResponse("m", "1", "", (Tensor("y", UINT8, array.shape, array),))


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[InferenceCore]:
    manager = ModelManager([tmp_path], LoadingOptions(DeviceInventory(cores=1), DeviceShares(1)), QueueLimits(100))
    settings = TraceSettings(file=str(tmp_path / "trace"), level=frozenset({TIMESTAMPS}), rate=1)
    yield HugeAnswers(manager, "ortolan", False, True, Tracing(settings))
    await manager.stop()


def traced_names(core: InferenceCore, root: Path) -> list[str]:
    core.tracing.close()
    return [each["timestamps"][0]["name"] for each in json.loads((root / "trace").read_text()) if "timestamps" in each]


async def test_a_call_whose_answer_cannot_be_sent_is_traced(core: InferenceCore, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="more than the 2147483647"):
        await InferenceService(core, timing=False).model_infer(REQUEST, Call())
    assert traced_names(core, tmp_path)[-1] == "GRPC_SEND_END"


async def test_a_streams_answer_that_cannot_be_sent_is_traced(core: InferenceCore, tmp_path: Path) -> None:
    async def requests() -> AsyncIterator[bytes]:
        yield REQUEST

    (answer,) = [answer async for answer in InferenceStreams(core).answers(requests(), Call())]
    assert "more than the 2147483647" in messages.ModelStreamInferResponse.FromString(answer).error_message
    assert traced_names(core, tmp_path)[-1] == "GRPC_SEND_END"
