"""What the client of a connection has proved by its certificate, read when it is first asked for."""

import asyncio

from ortolan.frontends.tls.identity import PeerIdentity, peer_identity


class Peer:
    """Tells that of one connection."""

    __slots__ = ("_address", "_identity", "_is_read", "_transport")

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._is_read = False
        self._identity: PeerIdentity | None = None
        self._address: object = None

    def __call__(self) -> PeerIdentity | None:
        """None for a client without a certificate, as all are on plain connections."""
        if not self._is_read:
            self._is_read = True
            self._identity = peer_identity(self._transport)
        return self._identity

    @property
    def address(self) -> object:
        """The client's, as sockets have it."""
        if self._address is None:
            self._address = self._transport.get_extra_info("peername")
        return self._address
