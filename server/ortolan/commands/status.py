"""``ortolan status``: what a running server does, as a table that renews itself, once, or as JSON."""

import argparse
import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping

from ortolan.commands.address import Address, http_address
from ortolan.commands.connection import TlsFiles, add_tls_arguments
from ortolan.commands.durations import seconds
from ortolan.commands.own_server import arguments_of_the_server, own_server
from ortolan.commands.running_server import RunningServer, Unanswered
from ortolan.commands.status_figures import Look, Status, status
from ortolan.commands.status_table import fitted, status_text
from ortolan.errors import StartupError
from ortolan.hosting.local_files import LocalFiles

_INTERVAL_S = "2"
_TIMEOUT_S = "5"
# How many looks rates and latencies are over, where the table renews itself.
_WINDOW = 11
_HINT = "Ctrl-C ends this."

_BEGINNING_OF_LINE, _REST_OF_SCREEN = "\r", "\x1b[J"
_CURSOR_OFF, _CURSOR_ON = "\x1b[?25l", "\x1b[?25h"


def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Add what `ortolan status` takes; the flags' names."""
    add = parser.add_argument
    add("url", nargs="?", default="", metavar="URL", help="HOST:PORT or http(s)://…; default: this machine's server")
    add("--once", action="store_true", help="print one table and end; so it is without a terminal")
    add("--json", action="store_true", help="print JSON once")
    add("--interval-secs", default=_INTERVAL_S, metavar="SECS", help=f"how often to look; default: {_INTERVAL_S}")
    add("--timeout-secs", default=_TIMEOUT_S, metavar="SECS", help=f"how long answers may take; default: {_TIMEOUT_S}")
    add("--metrics-url", default="", metavar="URL", help="where its metrics are; default: URL/metrics, then port 8002")
    add("--api-key-file", default="", metavar="FILE", help="a file with the key or token to show [ORTOLAN_API_KEY]")
    add_tls_arguments(parser)
    return list(parser._option_string_actions)


def run(parsed: argparse.Namespace) -> int:
    """0: the server answered; 1: it did not. Raises StartupError for a wrong command line."""
    address, metrics = _addresses(parsed, os.environ)
    server = server_of(parsed, os.environ, address, metrics)
    interval_s = seconds("--interval-secs", parsed.interval_secs)
    try:
        if parsed.json or parsed.once or not sys.stdout.isatty():
            found = _between_two_looks(server, interval_s)
            print(_as_json(found) if parsed.json else status_text(found, address.place))
        else:
            _watch(server, address.place, interval_s)
    except Unanswered as error:
        print(f"ortolan: {error}", file=sys.stderr)
        return 1
    return 0


def _addresses(parsed: argparse.Namespace, environment: Mapping[str, str]) -> tuple[Address, Address | None]:
    """Whom to ask, and for its metrics, where that is told: without a URL the server that `ortolan health` asks."""
    named = parsed.metrics_url.rstrip("/").removesuffix("/metrics")
    metrics = http_address(named) if named else None
    if parsed.url:
        return http_address(parsed.url), metrics
    own = own_server(arguments_of_the_server(), environment, LocalFiles())
    if own.http is None or not own.http.port:
        raise StartupError("the server of this machine has no HTTP port of a number that is known: give its address")
    return own.http, metrics or own.metrics


def server_of(
    parsed: argparse.Namespace, environment: Mapping[str, str], address: Address, metrics: Address | None
) -> RunningServer:
    """Whom the command line means. Raises StartupError for what is no key."""
    return RunningServer(
        address,
        metrics,
        api_key(parsed.api_key_file, environment),
        TlsFiles(parsed.tls_ca, parsed.client_certificate, parsed.client_key),
        seconds("--timeout-secs", parsed.timeout_secs),
    )


def api_key(path: str, environment: Mapping[str, str]) -> str:
    """The key in the file, else that of the environment; "" for none. Raises StartupError for a file without."""
    if not path:
        return environment.get("ORTOLAN_API_KEY", "").strip()
    try:
        with open(path, encoding="utf-8") as file:
            key = file.readline().strip()
    except (OSError, UnicodeError) as error:
        raise StartupError(
            f"--api-key-file: cannot read '{path}': {getattr(error, 'strerror', '') or 'no text'}"
        ) from None
    if not key:
        raise StartupError(f"--api-key-file: no key is in the first line of '{path}'")
    return key


def _between_two_looks(server: RunningServer, interval_s: float) -> Status:
    first = server.look()
    if not interval_s:
        return status(first, first)
    time.sleep(interval_s)
    return status(first, server.look())


def _watch(server: RunningServer, place: str, interval_s: float) -> None:
    """Renew the table until somebody interrupts it, also while the server is away. Raises Unanswered at the start."""
    looks: deque[Look] = deque([server.look()], _WINDOW)
    screen, note = _Screen(), ""
    try:
        while True:
            screen.show(status_text(status(looks[0], looks[-1]), place), note or _HINT)
            time.sleep(interval_s or float(_INTERVAL_S))
            try:
                looks.append(server.look())
                note = ""
            except Unanswered as error:
                note = f"NO ANSWER: {error}"
    except KeyboardInterrupt:
        return
    finally:
        screen.leave()


class _Screen:
    """The lines of the terminal below those that were there before."""

    def __init__(self) -> None:
        self._height = 0
        sys.stdout.write(_CURSOR_OFF)

    def show(self, text: str, note: str) -> None:
        """Have ``note`` and ``text`` take the place of what was shown before."""
        size = shutil.get_terminal_size()
        shown = fitted(f"{note}\n{text}", size.columns - 1, size.lines - 1)
        back = _BEGINNING_OF_LINE + (f"\x1b[{self._height}A" if self._height else "") + _REST_OF_SCREEN
        self._height = shown.count("\n")
        sys.stdout.write(back + shown)
        sys.stdout.flush()

    def leave(self) -> None:
        sys.stdout.write(f"\n{_CURSOR_ON}")
        sys.stdout.flush()


def _as_json(found: Status) -> str:
    rows = [row._asdict() for row in found.rows]
    return json.dumps({**found._asdict(), "rows": rows}, indent=2)
