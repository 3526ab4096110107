"""What a connection tells its owner."""

from typing import Protocol

from ortolan.http2.header_blocks import HeaderList
from ortolan.http2.stream import Stream


class Http2Events(Protocol):
    """Whom a connection tells, from within ``receive``."""

    def requested(self, stream: Stream, headers: HeaderList, ended: bool) -> None:
        """A client began a request; ``ended``: nothing follows."""

    def data_came(self, stream: Stream, data: bytes | memoryview, ended: bool) -> None:
        """``data`` are views of what was received: copy what is to stay. Say ``consumed`` when more may come."""

    def cancelled(self, stream: Stream) -> None:
        """The client takes no answer any more, or broke the stream's rules."""

    def sent(self, stream: Stream) -> None:
        """Nothing of the stream waits to be sent any more."""

    def pinged(self) -> None:
        """The client sent a ping, which is answered already."""

    def ponged(self, payload: bytes) -> None:
        """The client answered our ping."""
