"""The command line: arguments → Settings → exit code."""

import argparse
import asyncio
import difflib
import importlib.util
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ortolan import __version__
from ortolan.errors import StartupError
from ortolan.triton_flags import add_foreign_flags

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

_ALIASES = {"model_repository": ["--model-store"], "disable_auto_complete_config": ["--strict-model-config"]}

# What a shell reports of a program that ended because nobody read any more what it wrote.
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ortolan``; the exit code is 0, 1 for a server that could not serve, 2 for a wrong command line.

    It is 141, and nothing more is said, when the reader of the output has had enough, as ``head`` has.
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


def _ran(arguments: Sequence[str] | None) -> int:
    parser, known_flags = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parsed, unknown = parser.parse_known_args(given)
        _refuse_unknown(unknown, known_flags)
        return int(parsed.run(parsed))
    except StartupError as error:
        print(f"ortolan: {error}", file=sys.stderr)
        return 2


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    parser = argparse.ArgumentParser(prog="ortolan", description="A model server for ONNX models.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ortolan {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    known: list[str] = []
    serve = commands.add_parser("serve", help="serve models over REST and gRPC", allow_abbrev=False)
    known += _add_settings(serve)
    serve.set_defaults(run=_serve, command="serve")
    models = commands.add_parser("models", help="show what would be served, and why not", allow_abbrev=False)
    known += _add_settings(models)
    models.add_argument("--explain", action="store_true", help="say how each model is batched, and why")
    models.set_defaults(run=_models, command="models")
    config = commands.add_parser("config", help="print a model's complete configuration", allow_abbrev=False)
    known += _add_settings(config)
    config.add_argument("--format", choices=("pbtxt", "json"), default="pbtxt", help="how to print it; default: pbtxt")
    config.set_defaults(run=_config, command="config")
    bench = commands.add_parser("bench", help="measure a model: requests/s, latencies, floors", allow_abbrev=False)
    known += _add_bench_arguments(bench)
    bench.set_defaults(run=_bench)
    encrypt = commands.add_parser("encrypt", help="encrypt a model's file", allow_abbrev=False)
    encrypt.add_argument("model", metavar="MODEL", help="the .onnx file, with all weights inside")
    encrypt.add_argument("output", metavar="OUTPUT", help="the file to write, which takes the model's place")
    encrypt.add_argument("--key-file", required=True, help="the file with the key; of several, the first counts")
    encrypt.set_defaults(run=_encrypt)
    key = commands.add_parser("api-key", help="make an API key, and its line for --api-keys-file", allow_abbrev=False)
    key.add_argument("name", metavar="NAME", help="whose it is; the log and the file call it so")
    key.add_argument(
        "--scopes",
        default="infer,read",
        help="infer, read, admin, infer@MODEL and so on, parted by commas; all: everything; default: infer,read",
    )
    key.add_argument("--file", help="the file of --api-keys-file, to put the line into; then only the key is printed")
    key.set_defaults(run=_api_key)
    version = commands.add_parser("version", help="print the versions of Ortolan and ONNX Runtime")
    version.set_defaults(run=_version)
    return parser, known


def _add_settings(parser: argparse.ArgumentParser) -> list[str]:
    """One flag for each setting; the values stay text, for Settings to check."""
    from ortolan.settings import ENVIRONMENT_PREFIX, Settings, flag_of, is_list

    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="a model repository, a model's directory, a .onnx file"
    )
    flags: list[str] = []
    for name, field in Settings.model_fields.items():
        several = is_list(name)
        names = [flag_of(name), *_ALIASES.get(name, ())]
        default = ",".join(map(str, field.default)) if several else field.default
        parser.add_argument(
            *names,
            dest=name,
            default=argparse.SUPPRESS,
            metavar=name.rsplit("_", 1)[-1].upper(),
            help=_help(f"{field.description} [{ENVIRONMENT_PREFIX}{name.upper()}; default: {str(default) or 'none'}]"),
            **_argument_form(several, field.annotation is bool),
        )
        flags += names
    add_foreign_flags(parser)
    return flags


def _add_bench_arguments(parser: argparse.ArgumentParser) -> list[str]:
    from ortolan.bench.plan import add_arguments

    return add_arguments(parser)


def _help(text: str) -> str:
    """``text`` as argparse takes it, which fills in what stands behind a percent sign."""
    return text.replace("%", "%%")


def _argument_form(several: bool, boolean: bool) -> dict[str, Any]:
    """A list may be given several times; a switch may stand alone for true."""
    if several:
        return {"action": "append"}
    return {"nargs": "?", "const": "true"} if boolean else {}


def _refuse_unknown(unknown: Sequence[str], known_flags: Sequence[str]) -> None:
    """Raises StartupError for the first argument that no flag and no path took."""
    for argument in unknown:
        if argument.startswith("-"):
            raise StartupError(_unknown_flag(argument.split("=", 1)[0], known_flags))
        raise StartupError(f"unexpected argument {argument!r}")


def _unknown_flag(flag: str, known_flags: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(flag, known_flags, n=1)
    return f"unknown flag {flag}{f'; did you mean {nearest[0]}?' if nearest else ''}"


def _settings(parsed: argparse.Namespace) -> "Settings":
    from ortolan.settings import likely_misspelt, read_settings

    flags = {key: value for key, value in vars(parsed).items() if key not in _NO_SETTINGS}
    paths = [*parsed.paths, *flags.pop("model_repository", [])]
    if paths:
        flags["model_repository"] = paths
    for sentence in likely_misspelt(os.environ):
        print(f"ortolan: {sentence}", file=sys.stderr)
    settings = read_settings(flags, os.environ)
    if not settings.model_repository:
        raise StartupError(
            f"say what to serve: ortolan {parsed.command} PATH, where PATH is a model repository or a .onnx file"
        )
    return settings


def _require_runtime() -> None:
    if importlib.util.find_spec("onnxruntime") is None:
        raise StartupError(_NO_RUNTIME)


def _serve(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    _require_runtime()
    from ortolan import logs

    if settings.processes > 1:
        from ortolan.replicas.supervisor import supervise

        return supervise(settings)
    from ortolan.managed_models import model_manager
    from ortolan.server import Server
    from ortolan.settings import held_requests
    from ortolan.summary import summary

    apply_log_settings = logs.set_up(settings.log_settings)
    manager = model_manager(settings, os.environ.get(_VISIBLE_GPUS), held_requests(os.environ), os.environ)
    server = Server(settings, manager, lambda started: print(summary(started), flush=True), apply_log_settings)
    return _run(server.run())


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

    text, failed = _run(shown())
    print(text)
    return 1 if failed else 0


def _config(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    _require_runtime()
    from ortolan import logs
    from ortolan.single_model import load_single_model
    from ortolan.summary import config_text

    logs.set_up(settings.log_settings)
    model = _run(load_single_model(settings, os.environ))
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


def _encrypt(parsed: argparse.Namespace) -> int:
    from pathlib import Path

    from ortolan.repository.encrypting import encrypt_model

    encrypt_model(Path(parsed.model), Path(parsed.output), Path(parsed.key_file))
    return 0


def _api_key(parsed: argparse.Namespace) -> int:
    from pathlib import Path

    from ortolan.frontends.access.api_keys import append_line, new_key

    scopes = [] if parsed.scopes == "all" else [scope.strip() for scope in parsed.scopes.split(",")]
    try:
        key, line = new_key(parsed.name, scopes)
        if parsed.file:
            append_line(Path(parsed.file), line)
    except ValueError as error:
        raise StartupError(f"api-key: {error}") from None
    shown = f"The key, which nothing shows again:\n  {key}\nThe line for the file of --api-keys-file:\n  {line}"
    print(key if parsed.file else shown)
    return 0


def _run(work: Coroutine[None, None, _T]) -> _T:
    """Run ``work`` on uvloop, or on asyncio's own loop where uvloop does not exist (Windows)."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _version(parsed: argparse.Namespace) -> int:  # noqa: ARG001
    _require_runtime()
    from ortolan.execution.session import RUNTIME_VERSION, available_providers

    print(f"ortolan {__version__}")
    print(f"onnxruntime {RUNTIME_VERSION} ({', '.join(available_providers())})")
    return 0
