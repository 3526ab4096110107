"""``ortolan health``: whether a server is ready, as an exit code for probes.

Starts in little more time than Python itself: it imports no library, and reads of the settings only where ports are.
"""

import argparse
import os
from typing import TYPE_CHECKING, NamedTuple

from ortolan.commands.address import Address, grpc_address, http_address
from ortolan.commands.connection import (
    Connection,
    TlsFiles,
    add_tls_arguments,
    explained,
    wants_other_certificate,
)
from ortolan.commands.durations import seconds
from ortolan.commands.health_questions import SERVING, grpc_health, http_status, metrics_say
from ortolan.errors import StartupError

if TYPE_CHECKING:
    from ortolan.commands.own_server import OwnServer

_READY = "/v2/health/ready"
_LIVE = "/v2/health/live"
_READY_SAMPLE = b"ortolan_ready 1"
_TIMEOUT_S = "4"


class Question(NamedTuple):
    """What is asked, whom and how. ``by`` is http, grpc or metrics."""

    by: str
    address: Address
    live: bool
    files: TlsFiles
    timeout_s: float


def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Add what `ortolan health` takes; the flags' names."""
    add = parser.add_argument
    add("url", nargs="?", default="", metavar="URL", help="HOST:PORT or http(s)://HOST:PORT; default: this server's")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ready", action="store_true", help="whether it takes requests; the default")
    which.add_argument("--live", action="store_true", help="whether it answers at all, also while it loads or drains")
    add("--grpc", action="store_true", help="ask grpc.health.v1 on the port of gRPC instead of HTTP")
    add("--timeout-secs", default=_TIMEOUT_S, metavar="SECS", help=f"how long all may take; default: {_TIMEOUT_S}")
    add_tls_arguments(parser)
    return list(parser._option_string_actions)


def run(parsed: argparse.Namespace) -> int:
    """0: ready; 1: not, or no answer. Raises StartupError for a wrong command line."""
    good, said = asked(_question(parsed))
    print(said)
    return 0 if good else 1


def _question(parsed: argparse.Namespace) -> Question:
    if parsed.url:
        return question_to(parsed)
    # Half as much time again as all above.
    from ortolan.commands.own_server import arguments_of_the_server, own_server
    from ortolan.hosting.local_files import LocalFiles

    return own_question(parsed, own_server(arguments_of_the_server(), os.environ, LocalFiles()))


def question_to(parsed: argparse.Namespace) -> Question:
    """What is asked of the server that the command line names. Raises StartupError where it names none."""
    by_grpc = parsed.grpc or parsed.url.startswith(("grpc://", "grpcs://"))
    address = grpc_address(parsed.url) if by_grpc else http_address(parsed.url)
    return Question("grpc" if by_grpc else "http", address, parsed.live, _files(parsed), _timeout_s(parsed))


def own_question(parsed: argparse.Namespace, server: "OwnServer") -> Question:
    """What is asked of ``server``, of which everything is known. Raises StartupError where it has no port for that.

    Where clients have to show a certificate and none is given, its metrics tell, which are never behind TLS; without
    them, its own certificate is shown, which is good where the same authority certifies clients.
    """
    by_grpc = parsed.grpc or not server.http
    address = server.grpc if by_grpc else server.http
    if address is None or not address.port:
        named = "gRPC" if by_grpc else "HTTP"
        raise StartupError(f"health: no port for {named} is known from this environment; give the server's URL")
    files, timeout_s = _files(parsed), _timeout_s(parsed)
    mutual = server.grpc_wants_certificates if by_grpc else server.wants_certificates
    if mutual and not files.certificate:
        if server.metrics and server.metrics.port:
            return Question("metrics", server.metrics, parsed.live, files, timeout_s)
        files = files._replace(certificate=server.certificate, key=server.key)
    return Question("grpc" if by_grpc else "http", address, parsed.live, files, timeout_s)


def asked(question: Question) -> tuple[bool, str]:
    """Whether the answer is the one that was hoped for, and what to say of it in one line."""
    hoped = "live" if question.live else "ready"
    try:
        good, answer = _answer(question)
    # A host name that cannot be encoded raises UnicodeError before anything is asked.
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and wants_other_certificate(error):
            return _refused(question)
        why = explained(
            error if isinstance(error, OSError) else OSError(str(error)), question.address, question.timeout_s
        )
        return False, f"not {hoped}: {why}"
    return good, f"{hoped if good else f'not {hoped}'}: {question.address.place} says {answer}"


def _refused(question: Question) -> tuple[bool, str]:
    """For a server that takes nobody without another certificate: who refuses is alive."""
    said = f"{question.address.place} wants {'another' if question.files.certificate else 'a'} client certificate"
    if question.live:
        return True, f"live: {said}"
    remedy = "give one by --client-certificate and --client-key, or leave --allow-metrics on, which tell without one"
    return False, f"not ready: {said}; {remedy}"


def _answer(question: Question) -> tuple[bool, str]:
    address, live = question.address, question.live
    protocols = ("h2",) if question.by == "grpc" else ()
    with Connection(address, question.files, question.timeout_s, protocols) as connection:
        if question.by == "grpc":
            status = grpc_health(connection, address.place, address.tls)
            # Who answers is alive, whatever the answer.
            return live or status == SERVING, status
        if question.by == "metrics":
            ready = metrics_say(connection, address.place, _READY_SAMPLE)
            return live or ready, f"ortolan_ready {int(ready)}"
        code = http_status(connection, address.place, address.path + (_LIVE if live else _READY))
        return code == 200, f"HTTP {code}"


def _files(parsed: argparse.Namespace) -> TlsFiles:
    return TlsFiles(parsed.tls_ca, parsed.client_certificate, parsed.client_key)


def _timeout_s(parsed: argparse.Namespace) -> float:
    return seconds("--timeout-secs", parsed.timeout_secs, least=0.001)
