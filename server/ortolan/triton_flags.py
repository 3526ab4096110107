"""Flags of tritonserver that this server takes, and does not do, or does by settings of another name."""

import argparse
import sys

# They have no meaning here and are accepted, so that its Helm charts and scripts work.
WITHOUT_EFFECT = (
    "--backend-directory --repoagent-directory --cache-directory --pinned-memory-pool-byte-size "
    "--cuda-memory-pool-byte-size --buffer-manager-thread-count --min-supported-compute-capability "
    "--enable-peer-access --cuda-virtual-address-size --sagemaker-safe-port-range --sagemaker-thread-count "
    "--vertex-ai-thread-count "
    "--model-load-retry-count --model-load-gpu-limit --host-policy "
    "--http-thread-count --reuse-http-port --grpc-infer-thread-count --grpc-infer-allocation-pool-size "
    "--grpc-max-response-pool-size --reuse-grpc-port".split()
)

# Its older flags, and what they are called in --trace-config.
TRACE_FLAGS = {
    "--trace-file": "triton,file",
    "--trace-level": "level",
    "--trace-rate": "rate",
    "--trace-count": "count",
    "--trace-log-frequency": "triton,log-frequency",
}

# Its ports for hosting platforms, whose routes are on the HTTP port here.
HTTP_PORTS = ("--sagemaker-port", "--vertex-ai-port")

BACKEND_CONFIG = "--backend-config"
# What it may say that is a setting of ours.
_BATCH_SIZE_CONFIGS = ("default-max-batch-size=", "onnxruntime,default-max-batch-size=")


def add_foreign_flags(parser: argparse.ArgumentParser) -> None:
    """Have ``parser`` take them, with ``=`` or without; none is in its help."""
    foreign = dict.fromkeys(WITHOUT_EFFECT, _WithoutEffect) | dict.fromkeys(TRACE_FLAGS, _TraceFlag)
    foreign |= {BACKEND_CONFIG: _BackendConfig}
    foreign |= dict.fromkeys(HTTP_PORTS, _HttpPort)
    for flag, action in foreign.items():
        parser.add_argument(flag, action=action, nargs="?", dest=argparse.SUPPRESS, help=argparse.SUPPRESS)


class _WithoutEffect(argparse.Action):
    """Takes a flag and its value, with ``=`` or without, and says that they mean nothing here."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        print(f"ortolan: {option_string} has no effect in this server", file=sys.stderr)  # noqa: T201


class _TraceFlag(_WithoutEffect):
    """Takes an older flag for what --trace-config says now."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        given = [*getattr(namespace, "trace_config", ()), f"{TRACE_FLAGS[option_string or '']}={values or ''}"]
        setattr(namespace, "trace_config", given)  # noqa: B010 - typed object


class _HttpPort(_WithoutEffect):
    """Takes the port of a platform for that of HTTP."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        setattr(namespace, "http_port", values or "")  # noqa: B010 - typed object


class _BackendConfig(_WithoutEffect):
    """Takes the one setting of a backend that this server has, and says that others mean nothing here."""

    _own_backend = False

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:
        text = str(values)
        for start in _BATCH_SIZE_CONFIGS:
            if text.startswith(start):
                # What is said of the backend itself beats what is said of all, in whichever order.
                specific = "," in start
                if self._own_backend and not specific:
                    return
                self._own_backend = specific
                setattr(namespace, "default_max_batch_size", text.removeprefix(start))  # noqa: B010 - typed object
                return
        super().__call__(parser, namespace, values, f"{option_string}={text}" if values else option_string)
