"""Flags that KServe's built-in runtimes are started with, so that a manifest for one of them starts this server.

Sources: ``config/runtimes`` of KServe, for its Python servers, OpenVINO Model Server and TensorFlow Serving; those for
tritonserver are the server's own.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ortolan.errors import StartupError

_NAMES = {
    "model_repository": ("--model-dir", "--model-path", "--model-base-path"),
    "http_port": ("--rest-port", "--rest-api-port"),
    "http_address": ("--rest-bind-address",),
    "grpc_address": ("--grpc-bind-address",),
    "allow_grpc": ("--enable-grpc",),
}
_LISTS = frozenset({"model_repository"})
FIELD_OF_FLAG = {flag: field for field, flags in _NAMES.items() for flag in flags}
"""What each of their flags with a meaning is called here."""

# How many threads and processes they run, and what they tell of themselves.
WITHOUT_EFFECT = (
    "--workers --max-threads --max-asyncio-workers --nthread --rest-workers --grpc-workers --nireq --protocol "
    "--rest-api-timeout-in-ms --enable-docs-url --enable-latency-logging --configure-logging"
).split()
POLL = "--file-system-poll-wait-seconds"
# OpenVINO Model Server and TensorFlow Serving have it for gRPC, most other servers for HTTP.
PORT, _BARE_PORT = "--port", "port"
REFUSED = ("--predictor-host", "--predictor-protocol")


def hyphenated(arguments: Sequence[str]) -> list[str]:
    """The command line with its flags spelt with hyphens, as ours are; values stay as they are."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*(_hyphenated(argument) for argument in arguments[:end]), *arguments[end:]]


def add_runtime_flags(parser: argparse.ArgumentParser) -> None:
    """Have ``parser`` take them; none is in its help."""
    for field, flags in _NAMES.items():
        action = "append" if field in _LISTS else "store"
        parser.add_argument(*flags, dest=field, action=action, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for flag, taken in (
        *((flag, _WithoutEffect) for flag in WITHOUT_EFFECT),
        *((flag, _Refused) for flag in REFUSED),
        (POLL, _Poll),
    ):
        parser.add_argument(flag, action=taken, nargs="?", dest=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(PORT, dest=_BARE_PORT, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def with_ports(flags: Mapping[str, Any]) -> dict[str, Any]:
    """``flags``, by field name, with --port as what it is: gRPC's beside one for REST.

    Raises StartupError where it is alone.
    """
    settled = {name: value for name, value in flags.items() if name != _BARE_PORT}
    if _BARE_PORT in flags:
        if "http_port" not in flags:
            raise StartupError("--port may be HTTP's or gRPC's: say --http-port or --grpc-port")
        settled.setdefault("grpc_port", flags[_BARE_PORT])
    return settled


def _hyphenated(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


class _WithoutEffect(argparse.Action):
    """Says that what the flag is about is not parted like that here."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        print(f"ortolan: {option_string} has no effect in this server", file=sys.stderr)  # noqa: T201


class _Refused(argparse.Action):
    """A server that is to work for another one must not serve instead of it."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        raise StartupError(
            f"{option_string} is for a transformer, which asks another server; this one answers by itself: give the "
            "steps before and after a model as models of an ensemble"
        )


class _Poll(argparse.Action):
    """0: the repository is read once; else how often it is looked at, in seconds."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        if str(values) != "0":
            setattr(namespace, "model_control_mode", "poll")  # noqa: B010 - typed object
            setattr(namespace, "repository_poll_secs", str(values))  # noqa: B010 - typed object
