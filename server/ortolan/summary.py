"""What a person is told at start: models, versions, devices, threads, addresses, and one request to try."""

import json
import shlex
from dataclasses import replace
from urllib.parse import quote

from ortolan import __version__
from ortolan.core.model_manager import ModelManager
from ortolan.core.served_version import ServedVersion
from ortolan.execution.session import RUNTIME_VERSION
from ortolan.frontend_options import grpc_tls, http_tls
from ortolan.frontends.access.browsers import is_loopback
from ortolan.inference.example_request import example_request, is_small, value_count
from ortolan.repository import config_rendering
from ortolan.repository.model_config import ModelConfig
from ortolan.server import Server
from ortolan.settings import Settings

_EVERY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound


def summary(server: Server) -> str:
    """The text printed when the server has started."""
    processes = server.settings.processes
    several = f", {processes} processes" if processes > 1 else ""
    lines = [f"Ortolan {__version__} on ONNX Runtime {RUNTIME_VERSION}{several}", "", models_table(server.manager), ""]
    lines += _addresses(server)
    example = _example(server)
    if example:
        lines += ["", "Try it:", f"  {example}"]
    return "\n".join(lines)


def models_table(manager: ModelManager) -> str:
    """One line for each version that is served, and one for each model that is not, with the reason."""
    rows = [_row(version) for version in manager.serving()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else []
    columns = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    lines = [f"  {line.rstrip()}" for line in columns]
    for name, reasons in manager.failures().items():
        lines += [f"  {name}  NOT SERVED: {reason}" for reason in reasons]
    return "\n".join(lines) or _nothing(manager)


def _nothing(manager: ModelManager) -> str:
    if manager.residency.rules.on_demand and manager.residency.loadable():
        return "  no models loaded; each is when it is first asked"
    if manager.index():
        return "  no models loaded; load one with POST /v2/repository/models/NAME/load"
    return "  no models: the model repository is empty"


def config_text(config: ModelConfig, form: str) -> str:
    """``config`` as ``pbtxt`` or ``json`` that may become the model's configuration, and then means the same.

    Triton prints the largest batch as the preferred size where none is asked for. Here it is left out, so that it does
    not turn into one when somebody changes ``max_batch_size``.
    """
    batching = config.dynamic_batching
    if batching is not None and not batching.explicit:
        config = replace(config, dynamic_batching=replace(batching, preferred_batch_sizes=()))
    if form == "json":
        return json.dumps(config_rendering.to_json(config), indent=2, ensure_ascii=False)
    return config_rendering.to_text(config).rstrip()


def explanation(manager: ModelManager) -> str:
    """For each version how its requests are batched and why, with the measured cost curve."""
    lines: list[str] = []
    for version in manager.serving():
        if version.loaded is None:
            lines += ["", f"{version.name} version {version.number}: {_steps(version)}"]
            continue
        plan, profile = version.loaded.plan, version.loaded.profile
        lines += ["", f"{version.name} version {version.number}: {plan.batching.reason}"]
        if version.loaded.maps_compiled:
            lines.append("  its weights are mapped from the compiled cache")
        lines.append(f"  answers in a batch compared with single ones: {profile.invariance}")
        if plan.curves is None:
            lines.append(f"  no cost curve: {profile.note or 'it was not measured'}")
            continue
        curve = plan.curves.base
        for point in curve.points:
            each_us = point.duration_ns / point.rows / 1000
            lines.append(f"  {point.rows:5} rows {point.duration_ns / 1000:10.1f} us {each_us:9.1f} us a row")
        if plan.batching.max_rows > 1 and not plan.batching.explicit:
            lines.append(f"  {_usual_batch(curve.knee(plan.batching.max_rows), plan.batching.max_rows)}")
        inline = plan.inline_gate is not None and plan.inline_gate.admits(1, 0)
        lines.append(f"  a single row runs {'on the event loop' if inline else 'in an instance thread'}")
    return "\n".join(lines)


def _usual_batch(rows: int, most_rows: int) -> str:
    """How large batches become where there is enough to do, by the cost curve."""
    if rows == most_rows:
        return f"batches get up to {most_rows} rows, which is max_batch_size"
    usual = "requests run one by one" if rows == 1 else f"batches get about {rows} rows"
    return f"{usual}, though max_batch_size allows {most_rows}: larger batches gain nothing"


def _row(version: ServedVersion) -> tuple[str, str, str]:
    if version.loaded is None:
        return version.name, f"version {version.number}", _steps(version)
    devices = version.loaded.devices
    place = ", ".join(f"{devices.count(device)} on {device}" for device in dict.fromkeys(devices))
    threads = version.loaded.intra_op_threads
    size = version.signature.max_batch_size
    batches = "one request at a time"
    if version.loaded.plan.batching.max_rows > 1:
        batches = f"batches of up to {version.loaded.plan.batching.max_rows} rows"
    elif size > 1:
        batches = f"one request of up to {size} rows at a time"
    instances = "instance" if len(devices) == 1 else "instances"
    detail = f"{instances}: {place}, {threads} thread{'' if threads == 1 else 's'} each; {batches}"
    return version.name, f"version {version.number}", detail


def _steps(version: ServedVersion) -> str:
    return "ensemble of " + ", ".join(dict.fromkeys(step.model_name for step in version.config.ensemble_steps))


def _addresses(server: Server) -> list[str]:
    listeners, settings = server.listeners, server.settings
    lines: list[str] = []
    if listeners.http:
        address = _address(settings.http_address, listeners.http.port)
        lines.append(f"  HTTP     {address}  (documentation: {_scheme(settings)}://{_reachable(address)}/docs)")
    if listeners.grpc:
        secure = "  (TLS)" if grpc_tls(settings) else ""
        beside = "  (the same port)" if settings.one_port else secure
        lines.append(f"  gRPC     {_address(settings.grpc_address, listeners.grpc.port)}{beside}")
    if listeners.metrics:
        lines.append(f"  metrics  {_address(settings.metrics_host, listeners.metrics.port)}/metrics")
    return [*lines, f"  access   {_access(settings)}"]


def _access(settings: Settings) -> str:
    """Who may ask."""
    known = [
        *(["keys"] if settings.api_keys_file else []),
        *([f"tokens of {settings.jwt_issuer}"] if settings.jwt_issuer else []),
        *(
            ["certificates"]
            if any(files and files.client_ca for files in (http_tls(settings), grpc_tls(settings)))
            else []
        ),
    ]
    if known:
        return f"by {' or '.join(known)}; health and the documentation are open"
    if settings.admin_operations == "open":
        return "open to everybody, administration too"
    if is_loopback(settings.http_address) and is_loopback(settings.grpc_address):
        return "open to everybody on this machine"
    closed = "open to everybody who reaches it; administration is closed (--api-keys-file, --admin-operations)"
    return f"{closed}, but for SageMaker's /models" if settings.sagemaker_multi_model else closed


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reachable(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host.strip("[]") in _EVERY_ADDRESS else address


def _example(server: Server) -> str:
    """A curl line for the model whose example is shortest; empty where there is none that is short enough to paste."""
    http = server.listeners.http
    versions = sorted(server.manager.serving(), key=lambda version: value_count(version.signature))
    if http is None or not versions or not is_small(versions[0].signature):
        return ""
    address = _reachable(_address(server.settings.http_address, http.port))
    body = json.dumps(example_request(versions[0].signature), separators=(",", ":"))
    quoted = body.replace("'", "'\\''")
    url = f"{_scheme(server.settings)}://{address}/v2/models/{quote(versions[0].name, safe='')}/infer"
    key = ' -H "Authorization: Bearer $KEY"' if server.settings.api_keys_file or server.settings.jwt_issuer else ""
    return f"curl -s '{url}' -d '{quoted}'{key}{_certificates(server.settings)}"


def _scheme(settings: Settings) -> str:
    return "https" if http_tls(settings) else "http"


def _certificates(settings: Settings) -> str:
    """What curl needs to trust the server, and to be trusted."""
    files = http_tls(settings)
    if files is None:
        return ""
    own = "" if files.client_ca is None or files.client_optional else " --cert CLIENT.pem --key CLIENT.key"
    return f" --cacert {shlex.quote(str(files.certificate))}{own}"
