"""The command line: arguments → Settings → exit code."""

import argparse
import asyncio
import difflib
import importlib.util
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ortolan import __version__
from ortolan.errors import StartupError

if TYPE_CHECKING:
    from ortolan.settings import Settings

_NO_RUNTIME = (
    "ONNX Runtime is not installed. Install one of the two builds:\n"
    '  pip install "ortolan[cpu]"   for the CPU\n'
    '  pip install "ortolan[gpu]"   for NVIDIA GPUs'
)

# What the command line holds beside settings.
_NO_SETTINGS = ("run", "command", "paths", "explain", "format")

_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

# Flags of tritonserver that have no meaning here: they are accepted, so that its Helm charts and scripts work.
_WITHOUT_EFFECT = (
    "--backend-directory --repoagent-directory --cache-directory --pinned-memory-pool-byte-size "
    "--cuda-memory-pool-byte-size --buffer-manager-thread-count --min-supported-compute-capability "
    "--enable-peer-access --cuda-virtual-address-size --allow-sagemaker --allow-vertex-ai "
    "--model-load-retry-count --model-load-gpu-limit --host-policy "
    "--http-thread-count --reuse-http-port "
    "--grpc-infer-thread-count --grpc-infer-allocation-pool-size --grpc-max-response-pool-size --reuse-grpc-port "
    "--metrics-config --metrics-interval-ms --allow-gpu-metrics --allow-cpu-metrics "
    "--rate-limit --rate-limit-resource".split()
)

# Those that guard access or encrypt: whoever sets one relies on it, so a server without it must not start.
_GUARDS = "--grpc-use-ssl --grpc-use-ssl-mutual --grpc-server-cert --grpc-server-key --grpc-root-cert".split()
_FALSE = ("false", "off", "no", "0")

_ALIASES = {"model_repository": ["--model-store"], "disable_auto_complete_config": ["--strict-model-config"]}

# Its older flags, and what they are called in --trace-config.
_TRACE_FLAGS = {
    "--trace-file": "triton,file",
    "--trace-level": "level",
    "--trace-rate": "rate",
    "--trace-count": "count",
    "--trace-log-frequency": "triton,log-frequency",
}

# What its --backend-config may say that is a setting of ours.
_BATCH_SIZE_CONFIGS = ("default-max-batch-size=", "onnxruntime,default-max-batch-size=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ortolan``; the exit code is 0, 1 for a server that could not serve, 2 for a wrong command line."""
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
            help=f"{field.description} [{ENVIRONMENT_PREFIX}{name.upper()}; default: {str(default) or 'none'}]",
            **_argument_form(several, field.annotation is bool),
        )
        flags += names
    foreign = dict.fromkeys(_WITHOUT_EFFECT, _WithoutEffect) | dict.fromkeys(_GUARDS, _Guard)
    foreign |= dict.fromkeys(_TRACE_FLAGS, _TraceFlag) | {"--backend-config": _BackendConfig}
    for flag, action in foreign.items():
        parser.add_argument(flag, action=action, nargs="?", dest=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return flags


def _argument_form(several: bool, boolean: bool) -> dict[str, Any]:
    """A list may be given several times; a switch may stand alone for true."""
    if several:
        return {"action": "append"}
    return {"nargs": "?", "const": "true"} if boolean else {}


class _WithoutEffect(argparse.Action):
    """Takes a flag and its value, with ``=`` or without, and says that they mean nothing here."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        print(f"ortolan: {option_string} has no effect in this server", file=sys.stderr)


class _Guard(_WithoutEffect):
    """Refuses a flag that would have to guard something, unless it is switched off."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:
        if str(values).lower() not in _FALSE:
            raise StartupError(
                f"{option_string} is not supported: without it the server would be open to more than you asked for; "
                "put a proxy in front that restricts access and encrypts, and leave the flag out"
            )
        super().__call__(parser, namespace, values, option_string)


class _TraceFlag(_WithoutEffect):
    """Takes an older flag for what --trace-config says now."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        given = [*getattr(namespace, "trace_config", ()), f"{_TRACE_FLAGS[option_string or '']}={values or ''}"]
        setattr(namespace, "trace_config", given)  # noqa: B010 - typed object


class _BackendConfig(_WithoutEffect):
    """Takes the one setting of a backend that this server has, and says that others mean nothing here."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:
        text = str(values)
        for start in _BATCH_SIZE_CONFIGS:
            if text.startswith(start):
                setattr(namespace, "default_max_batch_size", text.removeprefix(start))  # noqa: B010 - typed object
                return
        super().__call__(parser, namespace, values, f"{option_string}={text}" if values else option_string)


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
    from ortolan.server import Server, model_manager
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
    from ortolan.server import model_manager
    from ortolan.summary import explanation, models_table

    logs.set_up(settings.log_settings)

    async def show() -> int:
        manager = model_manager(settings, os.environ.get(_VISIBLE_GPUS), environment=os.environ)
        await manager.load_all()
        print(models_table(manager))
        if parsed.explain:
            print(explanation(manager))
        await manager.stop()
        return 1 if manager.failures() else 0

    return _run(show())


def _config(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    _require_runtime()
    from ortolan import logs
    from ortolan.server import model_manager
    from ortolan.summary import effective_config

    logs.set_up(settings.log_settings)

    async def show() -> int:
        manager = model_manager(settings, os.environ.get(_VISIBLE_GPUS), environment=os.environ)
        await manager.load_all()
        if len(manager.names()) != 1:
            found = ", ".join(manager.names()) or "none"
            raise StartupError(f"ortolan config takes the directory of one model; the models found are: {found}")
        for name, reasons in manager.failures().items():
            print(f"ortolan: model '{name}' cannot be served: {'; '.join(reasons)}", file=sys.stderr)
        if not manager.failures():
            print(effective_config(manager, parsed.format))
        await manager.stop()
        return 1 if manager.failures() else 0

    return _run(show())


def _run(work: Coroutine[None, None, int]) -> int:
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
