"""What the operator chose: whether it can be had here. Ports, files of TLS, directories of caches, extra packages."""

import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path

from ortolan.commands.address import Address
from ortolan.commands.checks.finding import Finding, broken, ok, warning
from ortolan.commands.connection import Connection, TlsFiles, wants_other_certificate
from ortolan.commands.health_questions import http_status
from ortolan.errors import StartupError
from ortolan.settings import MODEL_KEY, Settings, likely_misspelt

_TIMEOUT_S = 2.0


def check(settings: Settings, environment: Mapping[str, str]) -> list[Finding]:
    return [
        *misspelt(environment),
        *ports(settings),
        *tls(settings, time.time()),
        *directories(settings),
        *extras(settings, environment),
    ]


def misspelt(environment: Mapping[str, str]) -> list[Finding]:
    return [warning("settings", sentence, "correct its name, or unset it") for sentence in likely_misspelt(environment)]


def ports(settings: Settings) -> list[Finding]:
    """Whether each port could be opened now.

    Beside a server of this kind, which answers on the HTTP port, none that is taken is a fault: they are its.
    """
    s = settings
    doors = {
        "http": (s.allow_http, s.http_address, s.http_port),
        "grpc": (s.allow_grpc and not s.one_port, s.grpc_address, s.grpc_port),
        "metrics": (s.allow_metrics, s.metrics_host, s.metrics_port),
    }
    tried = {door: _refusal(door, address, port) for door, (is_open, address, port) in doors.items() if is_open}
    http = Address(s.http_address or "127.0.0.1", s.http_port, bool(s.tls_certificate))
    beside = tried.get("http") is not None and _serves(http)
    return [_port(door, *doors[door][1:], refusal, beside) for door, refusal in tried.items()]


def _refusal(door: str, address: str, port: int) -> StartupError | None:
    from ortolan.frontends.listening import listening_socket

    try:
        listening_socket(address, port, f"--{door}-port").close()
    except StartupError as error:
        return error
    return None


def _port(door: str, address: str, port: int, refusal: StartupError | None, beside: bool) -> Finding:
    subject = f"{door} port"
    if refusal is None:
        return ok(subject, f"{address}:{port} is free" if port else f"a free one of {address}")
    if beside:
        text = f"{address}:{port}: a server is there already"
        return warning(subject, text, f"stop it before another one starts, or choose another --{door}-port")
    what, _, remedy = str(refusal).partition(". ")
    return broken(subject, what, remedy)


def _serves(address: Address) -> bool:
    try:
        with Connection(address, TlsFiles(), _TIMEOUT_S) as connection:
            return http_status(connection, address.place, "/v2/health/live") == 200
    except OSError as error:
        return wants_other_certificate(error)


def tls(settings: Settings, now_s: float) -> list[Finding]:
    """Whether the files of TLS belong together, and for how long they are of use at ``now_s``, seconds since 1970."""
    from ortolan.frontend_options import grpc_tls, http_tls
    from ortolan.frontends.tls.certificates import Age, age, expiry_text, load_certificates

    findings: list[Finding] = []
    for files in dict.fromkeys((http_tls(settings), grpc_tls(settings))):
        if files is None:
            continue
        try:
            expiries = load_certificates(files, now_s).expiries
        except StartupError as error:
            findings.append(broken("TLS", str(error), "give files that fit; docs/tls.md says how to make some"))
            continue
        for expiry in expiries:
            if age(expiry, now_s) is Age.FRESH:
                findings.append(
                    ok("TLS", f"{expiry.flag}: of use until {time.strftime('%Y-%m-%d', time.gmtime(expiry.ends_s))}")
                )
            else:
                findings.append(
                    warning("TLS", expiry_text(expiry, now_s), "renew it; the server sees it without a restart")
                )
    return findings


def directories(settings: Settings) -> list[Finding]:
    """Whether what is kept between starts can be written. Without, the server measures and compiles anew."""
    named = {
        "--calibration-cache": settings.calibration_directory,
        "--compiled-cache-directory": settings.compiled_models,
        "--download-directory": settings.downloads,
    }
    unwritable = {flag: path for flag, path in named.items() if path is not None and not _can_write(path)}
    if not unwritable:
        return [ok("caches", ", ".join(sorted({str(path) for path in named.values() if path})) or "none are kept")]
    return [
        warning("caches", f"{flag}: {path} cannot be written", f"give {flag} another directory, or set XDG_CACHE_HOME")
        for flag, path in unwritable.items()
    ]


def _can_write(path: Path) -> bool:
    """Whether the directory may be written to, or made."""
    there = next((each for each in (path, *path.parents) if each.exists()), path)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def extras(settings: Settings, environment: Mapping[str, str]) -> list[Finding]:
    """The packages that these settings need and the server alone does not."""
    findings: list[Finding] = []
    for extra, (asked_by, modules) in _extras(settings, environment).items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            text = f"{asked_by} needs {' and '.join(missing)}, not installed"
            findings.append(broken("extras", text, f'pip install "ortolan[{extra}]"'))
        else:
            findings.append(ok("extras", f"{asked_by}: {extra} is installed"))
    return findings


def _extras(settings: Settings, environment: Mapping[str, str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Of each extra that is asked for: by what, and the modules."""
    s = settings
    stores = [path for path in s.model_repository if path.startswith(("s3://", "gs://", "az://", "as://"))]
    opentelemetry = any(text.replace(" ", "").startswith("mode=opentelemetry") for text in s.trace_config)
    asked = {
        "cloud": (stores[0] if stores else "", ("obstore",)),
        "oidc": ("--jwt-issuer" if s.jwt_issuer else "", ("jwt", "cryptography")),
        "encryption": (_encryption(settings, environment), ("cryptography",)),
        "signing": ("--model-signature" if s.model_signature != "off" else "", ("model_signing",)),
        "otel": ("--trace-config mode=opentelemetry" if opentelemetry else "", ("opentelemetry",)),
    }
    return {extra: (by, modules) for extra, (by, modules) in asked.items() if by}


def _encryption(settings: Settings, environment: Mapping[str, str]) -> str:
    if settings.model_key_file:
        return "--model-key-file"
    return MODEL_KEY if environment.get(MODEL_KEY) else ""
