"""Flags of tritonserver that this server takes, and does not do, or does by settings of another name."""

import argparse
import sys

# They have no meaning here and are accepted, so that its Helm charts and scripts work.
_WITHOUT_EFFECT = (
    "--backend-directory --repoagent-directory --cache-directory --pinned-memory-pool-byte-size "
    "--cuda-memory-pool-byte-size --buffer-manager-thread-count --min-supported-compute-capability "
    "--enable-peer-access --cuda-virtual-address-size --allow-sagemaker --allow-vertex-ai "
    "--model-load-retry-count --model-load-gpu-limit --host-policy "
    "--http-thread-count --reuse-http-port "
    "--grpc-infer-thread-count --grpc-infer-allocation-pool-size --grpc-max-response-pool-size --reuse-grpc-port "
    "--metrics-config --metrics-interval-ms --allow-gpu-metrics --allow-cpu-metrics".split()
)

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


def add_foreign_flags(parser: argparse.ArgumentParser) -> None:
    """Have ``parser`` take them, with ``=`` or without; none is in its help."""
    foreign = dict.fromkeys(_WITHOUT_EFFECT, _WithoutEffect) | dict.fromkeys(_TRACE_FLAGS, _TraceFlag)
    foreign |= {"--backend-config": _BackendConfig}
    for flag, action in foreign.items():
        parser.add_argument(flag, action=action, nargs="?", dest=argparse.SUPPRESS, help=argparse.SUPPRESS)


class _WithoutEffect(argparse.Action):
    """Takes a flag and its value, with ``=`` or without, and says that they mean nothing here."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        print(f"ortolan: {option_string} has no effect in this server", file=sys.stderr)  # noqa: T201


class _TraceFlag(_WithoutEffect):
    """Takes an older flag for what --trace-config says now."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:  # noqa: ARG002
        given = [*getattr(namespace, "trace_config", ()), f"{_TRACE_FLAGS[option_string or '']}={values or ''}"]
        setattr(namespace, "trace_config", given)  # noqa: B010 - typed object


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
