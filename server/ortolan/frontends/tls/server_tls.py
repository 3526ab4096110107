"""TLS of a server: certificates that follow their files, and connections made with the newest of them."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ortolan.errors import StartupError
from ortolan.frontends.tls.certificates import (
    Age,
    Certificates,
    Expiry,
    Speaks,
    age,
    expiry_text,
    load_certificates,
)
from ortolan.frontends.tls.tls_connection import TlsConnection
from ortolan.frontends.tls.tls_files import TlsContents, TlsFiles, read_contents

_log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
"""So long a client may take from its connection to the end of the handshake."""
_LOOK_S = 2.0


class TlsPort:
    """TLS on one port."""

    def __init__(self, newest: Callable[[], ssl.SSLContext], handshake_s: float = HANDSHAKE_S) -> None:
        """``newest`` is asked for each connection."""
        self._newest = newest
        self._handshake_s = handshake_s

    def over(self, new_protocol: Callable[..., asyncio.Protocol]) -> Callable[..., TlsConnection]:
        """What a server takes instead of ``new_protocol``, with the same arguments; that is called when TLS stands."""

        def new(*args: Any, **kwargs: Any) -> TlsConnection:
            return TlsConnection(self._newest(), partial(new_protocol, *args, **kwargs), self._handshake_s)

        return new


class ServerTls:
    """One set of files for any number of ports. Lives on the event loop."""

    def __init__(self, files: TlsFiles, look_s: float = _LOOK_S, clock: Callable[[], float] = time.time) -> None:
        """Look at ``files`` every ``look_s``. Raises StartupError as ``load_certificates`` does."""
        self.files = files
        self._look_s = look_s
        self._clock = clock
        self._ages: dict[Expiry, Age] = {}
        self._problem = ""
        self._told_problem = ""
        self._newest = load_certificates(files, clock())
        self._tell_ages()

    @property
    def contents(self) -> TlsContents:
        """What the certificates in use were made of."""
        return self._newest.contents

    def port(self, speaks: Speaks) -> TlsPort:
        """TLS for a port where that is spoken."""
        return TlsPort(lambda: self._newest.contexts[speaks])

    async def follow(self) -> None:
        """Use what is in the files, as soon as it is of use, until cancelled.

        Their contents are compared: a mounted secret changes by links, and a file may be written again in the time
        that its file system cannot tell apart.
        """
        while True:
            await asyncio.sleep(self._look_s)
            try:
                found = await asyncio.to_thread(self._changed)
            except StartupError as error:
                self._refused(str(error))
            else:
                self._problem = ""
                if found is not None:
                    self._take(found)
            self._tell_ages()

    def _changed(self) -> Certificates | None:
        """What is in the files, if it is not what is in use. Raises StartupError where that is of no use."""
        if read_contents(self.files) == self._newest.contents:
            return None
        return load_certificates(self.files, self._clock())

    def _take(self, found: Certificates) -> None:
        self._newest = found
        self._told_problem = ""
        self._ages = {}
        _log.info("%s and what belongs to it changed: new connections get the new ones", self.files.flags.certificate)

    def _refused(self, problem: str) -> None:
        """Tell a problem once, and only if it lasts: a certificate and its key are not written at once."""
        if problem == self._problem != self._told_problem:
            self._told_problem = problem
            _log.error("what is in use stays in use: %s", problem)
        self._problem = problem

    def _tell_ages(self) -> None:
        now_s = self._clock()
        for expiry in self._newest.expiries:
            found = age(expiry, now_s)
            if found > self._ages.get(expiry, Age.FRESH):
                _log.log(logging.ERROR if found is Age.OVER else logging.WARNING, expiry_text(expiry, now_s))
            self._ages[expiry] = found
