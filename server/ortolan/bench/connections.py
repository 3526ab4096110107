"""The sockets of a load generator, all in one thread: requests go out, answers come in, waiting is exact.

Sockets and a selector of its own, because the timers of event loops are no finer than a millisecond, and at ten
thousand requests per second the moments at which they are due lie a tenth of that apart.
"""

import select
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ortolan.bench.http_exchange import Answer
from ortolan.bench.load import Address, PreparedRequest

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_RECEIVE_BYTES = 1 << 18
_CONNECT_TIMEOUT_S = 10.0
# From here on a millisecond more does not matter.
_ROUGH_S = 0.05
_LOST = "connection closed"


class Exchange(Protocol):
    """The client's side of a protocol, without a socket."""

    over: bool

    def ask(self, request: PreparedRequest, tag: Any) -> None: ...

    def outgoing(self) -> bytes: ...

    def receive(self, data: bytes) -> list[Answer]: ...

    def lost(self) -> list[Any]: ...


class Connection:
    """One connection; another takes its place when the server has closed it."""

    def __init__(
        self, address: Address, make_exchange: Callable[[], Exchange], selector: selectors.BaseSelector
    ) -> None:
        self._address, self._make_exchange, self._selector = address, make_exchange, selector
        self._open()

    def ask(self, request: PreparedRequest, tag: Any) -> None:
        """Send ``request``; its answer will carry ``tag``."""
        self._exchange.ask(request, tag)
        self._send(self._exchange.outgoing())

    def on_ready(self, events: int) -> list[Answer]:
        """Read and write what can be; the answers that came. Raises OSError if the server is gone for good."""
        if events & _WRITE:
            self._send(b"")
        if not events & _READ:
            return []
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        answers = self._exchange.receive(data) if data else []
        if not data or (self._exchange.over and not self._exchange.lost()):
            answers += [Answer(tag, _LOST, b"") for tag in self._exchange.lost()]
            self.close()
            self._open()
        elif out := self._exchange.outgoing():
            self._send(out)
        return answers

    def close(self) -> None:
        self._selector.unregister(self._socket)
        self._socket.close()

    def _open(self) -> None:
        self._socket = socket.create_connection(self._address, _CONNECT_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._unsent = b""
        self._exchange = self._make_exchange()
        self._selector.register(self._socket, _READ, self)
        self._send(self._exchange.outgoing())

    def _send(self, data: bytes) -> None:
        waiting = bool(self._unsent)
        data = self._unsent + data if waiting else data
        try:
            sent = self._socket.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            # The next read tells of the end, and what was under way is counted there.
            sent = len(data)
        self._unsent = data[sent:]
        if bool(self._unsent) != waiting:
            self._selector.modify(self._socket, _READ | _WRITE if self._unsent else _READ, self)


class Connections:
    """A number of connections to one address."""

    def __init__(self, address: Address, count: int, make_exchange: Callable[[], Exchange]) -> None:
        """Raises OSError when the address does not take them."""
        self._selector = selectors.DefaultSelector()
        self.all = [Connection(address, make_exchange, self._selector) for _ in range(count)]

    def answers(self, within_s: float) -> Iterator[tuple[Connection, Answer]]:
        """The answers that come until ``within_s`` are over, or that are there at once: no longer than until one is."""
        for key, events in self._ready(within_s):
            connection: Connection = key.data
            for answer in connection.on_ready(events):
                yield connection, answer

    def _ready(self, within_s: float) -> list[tuple[selectors.SelectorKey, int]]:
        fileno = getattr(self._selector, "fileno", None)
        if fileno is None or within_s <= 0 or within_s >= _ROUGH_S:
            return self._selector.select(max(within_s, 0))
        # epoll counts in milliseconds; select, on epoll's own descriptor, in microseconds.
        ready, _, _ = select.select([fileno()], (), (), within_s)
        return self._selector.select(0) if ready else []

    def close(self) -> None:
        for connection in self.all:
            connection.close()
        self._selector.close()
