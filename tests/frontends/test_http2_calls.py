"""How long one call's client may take: the calls themselves, with the clock passed in."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial

import pytest
from frontends.grpc_peers import framed
from http2.peers import REQUEST, Echo

from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.connection_life import PATIENCE_BYTES, PATIENCE_S
from ortolan.frontends.grpc.http2_answer import Http2Answer
from ortolan.frontends.grpc.http2_call import AFTER_DEADLINE_S, Http2Call
from ortolan.frontends.grpc.methods import MethodName, UnaryRpc
from ortolan.frontends.grpc.stream_call import StreamCall
from ortolan.frontends.grpc.unary_call import UnaryCall
from ortolan.http2 import frames
from ortolan.http2.connection import Http2Connection
from ortolan.http2.header_blocks import encode
from ortolan.http2.limits import Http2Limits
from ortolan.protocol.grpc_framing import ByteCount, MessageReader

NOW_S = 1000.0
HALF = framed(bytes(PATIENCE_BYTES * 4))[: PATIENCE_BYTES * 2]


async def answer(data: bytes, call: Call) -> bytes:
    return data


async def answers(requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
    async for data in requests:
        yield data


class Begun:
    """A call on a connection in memory."""

    def __init__(self, call: Call | None = None, *, streams: bool = False) -> None:
        self.http2 = Http2Connection(Http2Limits(), Echo(), NOW_S)
        fields = encode([(name.encode(), value.encode()) for name, value in REQUEST])
        opening = frames.PREFACE + frames.settings({})
        self.http2.receive(opening + frames.header_frames(1, fields, end=False, max_frame=16_384), NOW_S)
        self.stream = self.http2.streams[1]
        response = Http2Answer(self.http2, self.stream)
        reader = partial(MessageReader, 1 << 30, "identity", ByteCount())
        call = call or Call()
        rpc = UnaryRpc(MethodName("service", "method", OPERATIONS["ModelInfer"]), answer)
        self.call: Http2Call = (
            StreamCall(answers, call, response, reader(), lambda: None)
            if streams
            else UnaryCall(rpc, call, response, 1 << 30, reader, lambda: None, NOW_S)
        )
        self.stream.owner = self.call

    def receive(self, data: bytes) -> None:
        self.stream.taken += len(data)
        self.call.feed(data, ended=False)

    @property
    def over(self) -> bool:
        return not self.stream.sending


@pytest.mark.parametrize("sent", [b"", HALF[: PATIENCE_BYTES - 1]], ids=["nothing", "too little"])
def test_a_call_that_does_not_come_is_ended_when_its_patience_is_over_and_not_at_a_later_look(sent: bytes) -> None:
    begun = Begun()
    begun.receive(sent)
    for now_s in (NOW_S + 20, NOW_S + 50, NOW_S + PATIENCE_S - 0.01):
        assert begun.call.look_at_the_clock(now_s) == NOW_S + PATIENCE_S
    assert not begun.over
    begun.call.look_at_the_clock(NOW_S + PATIENCE_S)
    assert begun.over


def test_a_call_that_comes_slowly_but_comes_is_not_ended() -> None:
    begun = Begun()
    begun.receive(HALF[:PATIENCE_BYTES])
    assert begun.call.look_at_the_clock(NOW_S + PATIENCE_S - 1) == NOW_S + 2 * PATIENCE_S - 1


async def test_a_stream_owes_from_when_a_message_begins_until_it_is_whole() -> None:
    begun = Begun(streams=True)
    assert begun.call.look_at_the_clock(1e9) == math.inf
    now_s = asyncio.get_running_loop().time()
    begun.receive(HALF)
    ends_s = begun.call.look_at_the_clock(now_s + 1)
    assert now_s + PATIENCE_S <= ends_s < now_s + PATIENCE_S + 5
    begun.receive(HALF)
    begun.receive(framed(b"")[:5] + b"")
    assert begun.call.look_at_the_clock(ends_s - 1) > ends_s
    begun.receive(framed(bytes(PATIENCE_BYTES * 4))[len(HALF) * 2 :])
    assert begun.call.look_at_the_clock(1e9) == math.inf
    assert not begun.over
    begun.call.cancel()


@pytest.mark.parametrize("streams", [False, True], ids=["a call", "a stream"])
def test_a_deadline_is_kept_when_the_look_comes_that_was_asked_for(streams: bool) -> None:
    deadline_ns = time.monotonic_ns() + 10**9
    begun = Begun(Call(deadline_ns), streams=streams)
    asked_s = begun.call.look_at_the_clock(NOW_S)
    assert NOW_S + 0.5 < asked_s <= NOW_S + 1 + AFTER_DEADLINE_S
    late = Begun(Call(time.monotonic_ns() - int(AFTER_DEADLINE_S * 1e9)), streams=streams)
    assert late.call.look_at_the_clock(NOW_S) == math.inf
    assert late.over
