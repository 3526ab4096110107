"""The doors of one process: its ports, opened as the settings say."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from ortolan.access_options import Doorkeepers
from ortolan.core.inference_core import InferenceCore
from ortolan.frontend_options import grpc_options, grpc_tls, http_limits, http_tls, metrics_options, rest_options
from ortolan.frontends.grpc.grpcio_server import GrpcioServer
from ortolan.frontends.grpc.http2_server import Http2Server
from ortolan.frontends.grpc.methods import served_methods
from ortolan.frontends.http_server import HttpServer
from ortolan.frontends.metrics import MetricsPage, metrics_app, metrics_router
from ortolan.frontends.one_port.port import OnePort
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.bounded_connection import bounded_protocol
from ortolan.frontends.rest.http_bounds import HttpBounds
from ortolan.frontends.rest.http_connection import HttpService
from ortolan.frontends.tls.certificates import Speaks
from ortolan.frontends.tls.server_tls import ServerTls
from ortolan.settings import Settings


@dataclass(frozen=True, slots=True)
class Listeners:
    """The open doors; None for one that the operator closed."""

    http: HttpServer | None
    metrics: HttpServer | None
    grpc: Http2Server | GrpcioServer | OnePort | None
    keepers: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()
    """What is to run as long as they are open, until cancelled: certificates follow their files, load is measured."""


def open_listeners(core: InferenceCore, settings: Settings, access: Doorkeepers) -> Listeners:
    """Bind every port. Raises StartupError, which names the flag, when one cannot be had."""
    s = settings
    http = metrics = None
    grpc: Http2Server | GrpcioServer | OnePort | None = None
    shared = s.processes > 1
    tls = _PortsTls(s)
    page = MetricsPage(core, metrics_options(s, core.visible_gpus)) if s.allow_metrics else None
    if s.allow_http:
        app = RestApp(core, rest_options(s, access.http), (metrics_router(page),) if page else ())
        protocol = HttpService(app).protocol
        if s.one_port:
            options = grpc_options(s, access.grpc)
            grpc = OnePort(s.grpc_port, app, served_methods(core, options), options)
            protocol = grpc.protocol
        if tls.http is not None:
            speaks = Speaks.BOTH if s.one_port else Speaks.HTTP
            protocol = cast("type[asyncio.Protocol]", tls.http.port(speaks).over(protocol))
        grace_s = s.exit_timeout_secs
        http = HttpServer(app, s.http_address, s.http_port, "--http-port", grace_s, protocol, shared=shared)
    if page is not None:
        bounded = bounded_protocol(HttpBounds(http_limits(s)))
        metrics = HttpServer(
            metrics_app(page), s.metrics_host, s.metrics_port, "--metrics-port", 1, bounded, shared=shared
        )
    if s.allow_grpc and not s.one_port:
        options = grpc_options(s, access.grpc)
        methods = served_methods(core, options)
        if s.grpc_transport == "http2":
            port_tls = tls.grpc.port(Speaks.GRPC) if tls.grpc else None
            grpc = Http2Server(methods, s.grpc_address, s.grpc_port, options, port_tls)
        else:
            grpc = GrpcioServer(methods, s.grpc_address, s.grpc_port, options, tls.grpc)
    return Listeners(http, metrics, grpc, (*tls.keepers, *((page.keep,) if page else ())))


class _PortsTls:
    """TLS of the ports that are open; one where both have the same files. None for those in the clear."""

    def __init__(self, settings: Settings) -> None:
        """Raises StartupError as ``ServerTls`` does."""
        http_files = http_tls(settings) if settings.allow_http else None
        grpc_files = grpc_tls(settings) if settings.allow_grpc else None
        self.http = ServerTls(http_files) if http_files else None
        self.grpc = self.http if grpc_files == http_files else ServerTls(grpc_files) if grpc_files else None

    @property
    def keepers(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return tuple(tls.follow for tls in dict.fromkeys((self.http, self.grpc)) if tls is not None)
