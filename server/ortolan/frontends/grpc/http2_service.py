"""What all connections of one port share on our own transport, and how their calls begin."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import grpc

from ortolan.core.request_note import RequestNote
from ortolan.errors import Unsupported
from ortolan.frontends.access.peer import Peer
from ortolan.frontends.grpc.http2_answer import Http2Answer
from ortolan.frontends.grpc.http2_call import Http2Call
from ortolan.frontends.grpc.http2_exchange import OtherHead, OtherRequests
from ortolan.frontends.grpc.methods import Methods, Rpc, UnaryRpc
from ortolan.frontends.grpc.noted import note_of, trailers_of
from ortolan.frontends.grpc.options import COMPRESSION_ENCODINGS, GrpcOptions
from ortolan.frontends.grpc.request_head import Refusal, RequestHead, is_call, read_head
from ortolan.frontends.grpc.stream_call import StreamCall
from ortolan.frontends.grpc.unary_call import UnaryCall
from ortolan.frontends.held_bytes import HeldBytes
from ortolan.frontends.tls.identity import PeerIdentity
from ortolan.http2.connection import Http2Connection
from ortolan.http2.header_blocks import HeaderList
from ortolan.http2.limits import Http2Limits
from ortolan.http2.stream import Stream
from ortolan.protocol.grpc_framing import ByteCount, MessageReader

_NO_METHOD = "Method not found!"


class GrpcService:
    """The methods, and the limits."""

    def __init__(
        self, methods: Methods, options: GrpcOptions, limits: Http2Limits, others: OtherRequests | None = None
    ) -> None:
        """``others`` reads the fields of requests that are no gRPC calls, where the port is not gRPC's alone."""
        self._others = others
        self._methods = methods
        self._by_path: Mapping[str, Rpc] = {rpc.name.path: rpc for rpc in methods.all}
        self._max_message_bytes = options.max_message_bytes
        self._compression = COMPRESSION_ENCODINGS[options.compression]
        self.errors = methods.errors
        self.log = methods.log
        self.keep_alive = options.keep_alive
        self.limits = limits
        self.held = HeldBytes(options.held_bytes)

    def head(self, headers: HeaderList) -> RequestHead | Refusal | OtherHead:
        """What ``headers`` ask for, read once for equal ones."""
        if headers.meaning is None:
            if self._others is None or is_call(headers, self._by_path):
                headers.meaning = read_head(headers, self._by_path)
            else:
                headers.meaning = self._others(headers)
        return cast("RequestHead | Refusal | OtherHead", headers.meaning)

    def note(self, head: RequestHead | Refusal, peer: Peer) -> RequestNote | None:
        """That of a call that ``head`` begins; None where it is not noted."""
        if self.log is None and not head.request_id:
            return None
        return note_of(self.log, head.request_id, peer.address, head.path, head.user_agent)

    def call(
        self,
        head: RequestHead,
        http2: Http2Connection,
        stream: Stream,
        count: ByteCount,
        flush: Callable[[], None],
        now_s: float,
        peer: Callable[[], PeerIdentity | None],
        note: RequestNote | None = None,
    ) -> Http2Call:
        """The call that ``head`` begins at ``now_s``, by the loop; see ``Http2Call`` for ``count`` and ``flush``.

        Raises Unsupported for a method that is not there, and as ``Methods.call`` where the call is kept out.
        """
        rpc = head.rpc
        if rpc is None:
            raise Unsupported(_NO_METHOD)
        answer = Http2Answer(http2, stream, None if rpc.name.is_probe else self.errors, note)
        call = self._methods.call(rpc.name, head.timeout_s, head.metadata, peer, note)
        encoding = self._compression
        if encoding is not None and rpc.name.category == "inference" and encoding in head.accepts:
            answer.encoding = encoding
        reader = partial(MessageReader, self._max_message_bytes, head.encoding, count)
        if isinstance(rpc, UnaryRpc):
            return UnaryCall(rpc, call, answer, self._max_message_bytes, reader, flush, now_s)
        return StreamCall(rpc.run, call, answer, reader(), flush)


def refuse(answer: Http2Answer, refusal: Refusal) -> None:
    if refusal.http_status != 200:
        answer.refuse(refusal.http_status, refusal.message)
    elif refusal.too_large:
        answer.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, refusal.message)
    else:
        answer.fail(grpc.StatusCode.INTERNAL, refusal.message, trailers_of(answer.note))
