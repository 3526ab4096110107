"""The command line: arguments → Settings → exit code."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

from ortolan import __version__
from ortolan.commands.command_line import Command, module_command, parser_for
from ortolan.commands.settings_flags import add_settings
from ortolan.errors import StartupError
from ortolan.hosting.runtime_flags import hyphenated, with_ports

if TYPE_CHECKING:
    from ortolan.settings import Settings

_NO_RUNTIME = (
    "ONNX Runtime is not installed. Install one of the two builds:\n"
    '  pip install "ortolan[cpu]"   for the CPU\n'
    '  pip install "ortolan[gpu]"   for NVIDIA GPUs'
)

# What the command line holds beside settings.
_NO_SETTINGS = ("run", "command", "paths", "explain", "format")

_T = TypeVar("_T")
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

# What a shell reports of a program that ended because nobody read any more what it wrote, or that was interrupted.
_BROKEN_PIPE = 141
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ortolan``; the exit code is 0, 1 for a server that could not serve, 2 for a wrong command line.

    It is 141, and nothing more is said, when the reader of the output has had enough, as ``head`` has, and 130 when it
    was interrupted before there was a server that would end in good order.
    """
    try:
        try:
            return _ran(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter writes what is left when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _ran(arguments: Sequence[str] | None) -> int:
    given = hyphenated(sys.argv[1:] if arguments is None else arguments)
    parser, known_flags = parser_for(COMMANDS, given)
    try:
        parsed, unknown = parser.parse_known_args(given)
        _refuse_unknown(unknown, known_flags)
        return int(parsed.run(parsed))
    except StartupError as error:
        _write_logged()
        print(f"ortolan: {error}", file=sys.stderr)
        return 2


def _write_logged() -> None:
    """What was logged before an error stands before it."""
    import logging

    logging.shutdown()


def _add_models_arguments(parser: argparse.ArgumentParser) -> list[str]:
    parser.add_argument("--explain", action="store_true", help="say how each model is batched, and why")
    return add_settings(parser)


def _add_config_arguments(parser: argparse.ArgumentParser) -> list[str]:
    parser.add_argument("--format", choices=("pbtxt", "json"), default="pbtxt", help="how to print it; default: pbtxt")
    return add_settings(parser)


def _add_bench_arguments(parser: argparse.ArgumentParser) -> list[str]:
    from ortolan.bench.plan import add_arguments

    return add_arguments(parser)


def _add_completion_arguments(parser: argparse.ArgumentParser) -> list[str]:
    from ortolan.commands.completion import add_arguments

    return add_arguments(parser)


def _add_nothing(parser: argparse.ArgumentParser) -> list[str]:  # noqa: ARG001
    return []


def _refuse_unknown(unknown: Sequence[str], known_flags: Sequence[str]) -> None:
    """Raises StartupError for the first argument that no flag and no path took."""
    for argument in unknown:
        if argument.startswith("-"):
            raise StartupError(_unknown_flag(argument.split("=", 1)[0], known_flags))
        raise StartupError(f"unexpected argument {argument!r}")


def _unknown_flag(flag: str, known_flags: Sequence[str]) -> str:
    import difflib

    nearest = difflib.get_close_matches(flag, known_flags, n=1)
    return f"unknown flag {flag}{f'; did you mean {nearest[0]}?' if nearest else ''}"


def _settings(parsed: argparse.Namespace) -> "Settings":
    from ortolan.hosting.announcement import announcement
    from ortolan.hosting.local_files import LocalFiles
    from ortolan.settings import find_hosting, flag_of, given_values, likely_misspelt, read_settings

    flags = with_ports({key: value for key, value in vars(parsed).items() if key not in _NO_SETTINGS})
    paths = [*parsed.paths, *flags.pop("model_repository", [])]
    if paths:
        flags["model_repository"] = paths
    for sentence in likely_misspelt(os.environ):
        print(f"ortolan: {sentence}", file=sys.stderr)
    hosting = find_hosting(flags, os.environ, LocalFiles())
    settings = read_settings(flags, os.environ, hosting)
    if hosting is not None and parsed.command == "serve":
        print(announcement(hosting, flag_of, given_values(flags, os.environ)), flush=True)
    # Where a platform says later what to load, there may be nothing to begin with.
    if not settings.model_repository and not settings.sagemaker_multi_model:
        raise StartupError(
            f"say what to serve: ortolan {parsed.command} PATH, where PATH is a model repository or a .onnx file"
        )
    return settings


def _require_runtime() -> None:
    import importlib.util

    if importlib.util.find_spec("onnxruntime") is None:
        raise StartupError(_NO_RUNTIME)


def _serve(parsed: argparse.Namespace) -> int:
    # Until the server itself sees to it. Without, a container's first process would not hear the signal at all.
    before = signal.signal(signal.SIGTERM, _end_at_once)
    try:
        return _served(parsed)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_at_once(*_: object) -> NoReturn:
    raise SystemExit(0)


def _served(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    _require_runtime()
    from ortolan import logs
    from ortolan.service_manager import service_manager

    service = service_manager(os.environ)
    if settings.processes > 1:
        from ortolan.replicas.supervisor import supervise

        return supervise(settings, service)
    from ortolan.managed_models import model_manager
    from ortolan.server import Server
    from ortolan.settings import held_requests
    from ortolan.summary import summary

    process_logs = logs.set_up(settings.log_settings, access_log_file=settings.access_log_file, of_server=True)
    manager = model_manager(settings, os.environ.get(_VISIBLE_GPUS), held_requests(os.environ), os.environ)

    def announce(started: Server) -> None:
        print(summary(started), flush=True)

    write_access = process_logs.write_access
    server = Server(settings, manager, announce, process_logs, service=service, write_access=write_access)
    return _run(server.run)


def _models(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    _require_runtime()
    from ortolan import logs
    from ortolan.managed_models import model_manager
    from ortolan.summary import explanation, models_table

    logs.set_up(settings.log_settings)

    async def shown() -> tuple[str, bool]:
        manager = model_manager(settings, os.environ.get(_VISIBLE_GPUS), environment=os.environ)
        await manager.load_all()
        text = models_table(manager) + ("\n" + explanation(manager) if parsed.explain else "")
        await manager.stop()
        return text, bool(manager.failures())

    text, failed = _run(shown)
    print(text)
    return 1 if failed else 0


def _config(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    _require_runtime()
    from ortolan import logs
    from ortolan.single_model import load_single_model
    from ortolan.summary import config_text

    logs.set_up(settings.log_settings)
    model = _run(lambda: load_single_model(settings, os.environ))
    for failed, reasons in model.failures.items():
        print(f"ortolan: model '{failed}' cannot be served: {'; '.join(reasons)}", file=sys.stderr)
    if model.config is not None:
        print(config_text(model.config, parsed.format))
    return 1 if model.failures else 0


def _bench(parsed: argparse.Namespace) -> int:
    from ortolan.bench.plan import plan_of

    plan = plan_of(parsed)
    _require_runtime()
    from ortolan.bench.command import bench

    print(bench(plan))
    return 0


def _completion(parsed: argparse.Namespace) -> int:
    from ortolan.commands.command_line import whole_parser
    from ortolan.commands.completion import command_lines
    from ortolan.commands.completion_scripts import SCRIPTS
    from ortolan.settings import choices_of_flags

    parser, _ = whole_parser(COMMANDS, [*COMMANDS])
    print(SCRIPTS[parsed.shell](command_lines(parser, choices_of_flags())), end="")
    return 0


def _run(work: Callable[[], Coroutine[None, None, _T]]) -> _T:
    """Run ``work`` on uvloop, or on asyncio's own loop where uvloop does not exist (Windows)."""
    import asyncio

    if sys.platform == "win32":
        return asyncio.run(work())
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


def _version(parsed: argparse.Namespace) -> int:  # noqa: ARG001
    _require_runtime()
    from ortolan.execution.session import RUNTIME_VERSION, available_providers

    print(f"ortolan {__version__}")
    print(f"onnxruntime {RUNTIME_VERSION} ({', '.join(available_providers())})")
    return 0


COMMANDS = {
    "serve": Command("serve models over REST and gRPC", add_settings, _serve),
    "models": Command("show what would be served, and why not", _add_models_arguments, _models),
    "config": Command("print a model's complete configuration", _add_config_arguments, _config),
    "health": module_command("whether a server is ready, as an exit code", "ortolan.commands.health"),
    "status": module_command("what a running server does, renewed as it goes", "ortolan.commands.status"),
    "doctor": module_command("what keeps a server from serving here, and what to do", "ortolan.commands.doctor"),
    "bench": Command("measure a model: requests/s, latencies, floors", _add_bench_arguments, _bench),
    "encrypt": module_command("encrypt a model's file", "ortolan.commands.encrypt"),
    "api-key": module_command("make an API key, and its line for --api-keys-file", "ortolan.commands.api_key"),
    "completion": Command("print a script for a shell's completion", _add_completion_arguments, _completion),
    "version": Command("print the versions of Ortolan and ONNX Runtime", _add_nothing, _version),
}
