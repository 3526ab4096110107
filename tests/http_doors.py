"""One REST application behind both of its doors: plain ASGI, and the HTTP connections that answer inferences."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.held_bytes import HeldBytes
from ortolan.frontends.http_server import HttpServer
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.bounded_connection import bounded_protocol
from ortolan.frontends.rest.http_bounds import HttpBounds
from ortolan.frontends.rest.http_connection import HttpService
from ortolan.frontends.rest.http_limits import HttpLimits
from ortolan.frontends.rest.inference_exchange import RestOptions
from ortolan.managed_models import model_manager
from ortolan.server import Server
from ortolan.settings import Settings

LONGEST_S = 20.0


@dataclass(frozen=True)
class Doors:
    """The ports of both."""

    core: InferenceCore
    asgi: HttpServer
    own: HttpServer


@asynccontextmanager
async def opened(repository: Path, options: RestOptions, limits: HttpLimits | None = None) -> AsyncIterator[Doors]:
    """Both doors of a server with the models of ``repository``."""
    settings = Settings(model_repository=(str(repository),), calibration_cache="none")
    manager = model_manager(settings, None)
    core = Server(settings, manager, lambda _: None, lambda _: None).core
    await manager.load_all(None, wait_for_roots=False)
    core.set_started()
    app = RestApp(core, options)
    limits = limits or options.limits
    bounds = HttpBounds(limits, HeldBytes(options.held_bytes), options.hosts)
    asgi = HttpServer(app, "127.0.0.1", 0, "--http-port", 1, bounded_protocol(bounds))
    own = HttpServer(app, "127.0.0.1", 0, "--http-port", 1, HttpService(app, limits).protocol)
    tasks = [asyncio.create_task(door.listen()) for door in (asgi, own)]
    try:
        await until(lambda: asgi.started and own.started)
        yield Doors(core, asgi, own)
    finally:
        asgi.should_exit = own.should_exit = True
        await asyncio.wait_for(asyncio.gather(*tasks), LONGEST_S)
        await manager.stop()


async def until(condition: Callable[[], bool], within_s: float = LONGEST_S) -> None:
    """Return as soon as ``condition()`` is true; TimeoutError when it does not become so."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)


async def sent(port: int, *parts: bytes) -> bytes:
    """All that comes back until the server closes the connection, with what differs from time to time made the same."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(LONGEST_S):
            answer = await reader.read()
    finally:
        writer.close()
    answer = re.sub(rb"\r\ndate: [^\r]*", b"\r\ndate: now", answer)
    return re.sub(rb"dur=[0-9.]+", b"dur=0", answer)
