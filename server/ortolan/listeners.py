"""The doors of one process: its ports, opened as the settings say."""

from dataclasses import dataclass

from ortolan.core.inference_core import InferenceCore
from ortolan.frontend_options import grpc_options, rest_options
from ortolan.frontends.grpc.grpcio_server import GrpcioServer
from ortolan.frontends.grpc.http2_server import Http2Server
from ortolan.frontends.grpc.methods import served_methods
from ortolan.frontends.http_server import HttpServer
from ortolan.frontends.metrics import metrics_app
from ortolan.frontends.one_port.port import OnePort
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.http_connection import HttpService
from ortolan.settings import Settings


@dataclass(frozen=True, slots=True)
class Listeners:
    """The open doors; None for one that the operator closed."""

    http: HttpServer | None
    metrics: HttpServer | None
    grpc: Http2Server | GrpcioServer | OnePort | None


def open_listeners(core: InferenceCore, settings: Settings) -> Listeners:
    """Bind every port. Raises StartupError, which names the flag, when one cannot be had."""
    s = settings
    http = metrics = None
    grpc: Http2Server | GrpcioServer | OnePort | None = None
    shared = s.processes > 1
    if s.allow_http:
        app = RestApp(core, rest_options(s))
        protocol = HttpService(app).protocol
        if s.one_port:
            options = grpc_options(s)
            grpc = OnePort(s.grpc_port, app, served_methods(core, options), options)
            protocol = grpc.protocol
        grace_s = s.exit_timeout_secs
        http = HttpServer(app, s.http_address, s.http_port, "--http-port", grace_s, protocol, shared=shared)
    if s.allow_metrics:
        metrics = HttpServer(metrics_app(core), s.metrics_host, s.metrics_port, "--metrics-port", 1, shared=shared)
    if s.allow_grpc and not s.one_port:
        transport = Http2Server if s.grpc_transport == "http2" else GrpcioServer
        options = grpc_options(s)
        grpc = transport(served_methods(core, options), s.grpc_address, s.grpc_port, options)
    return Listeners(http, metrics, grpc)
