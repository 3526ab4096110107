"""What `ortolan bench` is asked to do: one frozen object from the command line."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ortolan.bench.load import Address, Form
from ortolan.errors import StartupError

_HTTP_PORT = 8000
_GRPC_PORT = 8001


@dataclass(frozen=True, slots=True)
class Plan:
    """``http`` is None where a server is to be started for ``model``, which is a path then."""

    model: str
    named: str
    http: Address | None
    grpc: Address | None
    forms: tuple[Form, ...]
    clients: tuple[int, ...]
    shares: tuple[float, ...]
    """Open-loop rates, as shares of the capacity."""
    rows: tuple[int, ...]
    seconds: float
    shapes: Mapping[str, tuple[int, ...]]
    request_file: str
    as_json: bool
    seed: int


def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Add what `ortolan bench` takes; the flags' names."""
    add = parser.add_argument
    add("target", metavar="MODEL", help="a .onnx file or a model's directory; with --url, the name of a model")
    add("--model", default="", help="which model, where MODEL is a repository with several")
    add("--url", default="", help="the HTTP address of a running server, such as localhost:8000; default: start one")
    add("--grpc-url", default="", help="its gRPC address; without it gRPC is not measured")
    forms = ",".join(form.value for form in Form)
    add("--forms", default=forms, help=f"how requests travel: some of {forms}; default: all")
    add("--clients", default="1,8,32", help="numbers of clients, each of which waits for its answer; default: 1,8,32")
    add(
        "--rates",
        default="0.5,0.9",
        help="open-loop rates: shares of the most requests/s; '' for none; default: 0.5,0.9",
    )
    add("--rows", default="1,2,4,8,16,32", help="rows per request, for the best batch; default: 1,2,4,8,16,32")
    add("--seconds", default="2", help="how long each point is measured; default: 2")
    add("--shape", action="append", default=[], help="INPUT:1,3,224,224: a shape where the model leaves sizes open")
    add("--request", default="", help="a file with a JSON inference request to send, instead of random values")
    add("--seed", default="1", help="for the random values; default: 1")
    add("--json", action="store_true", help="print JSON")
    return list(parser._option_string_actions)


def plan_of(given: argparse.Namespace) -> Plan:
    """Raises StartupError for what is no plan, naming the flag."""
    if given.grpc_url and not given.url:
        raise StartupError("--grpc-url needs --url: what the model is like is asked over HTTP")
    http = address_of("--url", given.url, _HTTP_PORT) if given.url else None
    grpc = address_of("--grpc-url", given.grpc_url, _GRPC_PORT) if given.grpc_url else None
    forms = tuple(_form(each) for each in _parts(given.forms))
    if http and not grpc:
        forms = tuple(form for form in forms if form is not Form.GRPC)
    if not forms:
        raise StartupError("--forms: say at least one; gRPC of a running server needs --grpc-url")
    return Plan(
        given.target,
        given.target if http else given.model,
        http,
        grpc,
        forms,
        tuple(whole("--clients", each) for each in some("--clients", given.clients)),
        tuple(positive("--rates", each) for each in some("--rates", given.rates)) if given.rates else (),
        tuple(whole("--rows", each) for each in some("--rows", given.rows)),
        positive("--seconds", given.seconds),
        dict(_shape(each) for each in given.shape),
        given.request,
        given.json,
        whole("--seed", given.seed),
    )


def address_of(flag: str, text: str, default_port: int) -> Address:
    """``HOST``, ``HOST:PORT`` or the same behind http:// or grpc://. Raises StartupError naming ``flag``."""
    whole = text if "://" in text else f"//{text}"
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname, parts.port or default_port
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in ("", "http", "grpc") or parts.path.strip("/"):
        raise StartupError(f"{flag}: expected HOST:PORT, got {text!r}; encrypted connections cannot be measured")
    return Address(host, port)


def some(flag: str, text: str) -> list[str]:
    """The parts of a list with commas. Raises StartupError naming ``flag`` when there are none."""
    parts = _parts(text)
    if not parts:
        raise StartupError(f"{flag}: expected at least one, got {text!r}")
    return parts


def whole(flag: str, text: str) -> int:
    """A number of things, above 0. Raises StartupError naming ``flag``."""
    if not text.isdecimal() or not 0 < int(text) <= 1 << 20:
        raise StartupError(f"{flag}: expected a number above 0, got {text!r}")
    return int(text)


def positive(flag: str, text: str) -> float:
    """A number above 0. Raises StartupError naming ``flag``."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise StartupError(f"{flag}: expected a number above 0, got {text!r}")
    return value


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _form(text: str) -> Form:
    try:
        return Form(text)
    except ValueError:
        known = ", ".join(form.value for form in Form)
        raise StartupError(f"--forms: expected some of {known}, got {text!r}") from None


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, colon, sizes = text.rpartition(":")
    if not colon or not name:
        raise StartupError(f"--shape: expected INPUT:SIZE,SIZE,..., got {text!r}")
    return name, tuple(whole("--shape", each) for each in _parts(sizes))
