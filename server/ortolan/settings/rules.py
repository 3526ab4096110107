"""What settings must obey together, so that each can be kept."""

import sys
from typing import TYPE_CHECKING

from ortolan.core.memory_amount import amount_of
from ortolan.core.memory_limit import refuse_wrong_limit

if TYPE_CHECKING:
    from ortolan.settings.chosen import Settings


def refuse_wrong_loads(settings: "Settings") -> None:
    """Raises ValueError where models would not be loaded as is asked for, or not again."""
    if settings.load_model and settings.model_control_mode != "explicit":
        raise ValueError("--load-model needs --model-control-mode=explicit")
    if "*" in settings.load_model and len(settings.load_model) > 1:
        raise ValueError("--load-model=* must be the only --load-model")
    if settings.model_idle_secs and not settings.load_on_demand:
        raise ValueError("--model-idle-secs needs --load-on-demand, or nothing would load the models again")


def refuse_no_door(settings: "Settings") -> None:
    """Raises ValueError where nobody could ask."""
    if not (settings.allow_http or settings.allow_grpc):
        raise ValueError("at least one of --allow-http and --allow-grpc must be true")


def refuse_wrong_budgets(settings: "Settings") -> None:
    """Raises ValueError where the memory budget or the memory limit is no amount."""
    text = settings.model_memory_budget
    try:
        amount_of(text or "100%", 1)
    except ValueError as error:
        raise ValueError(f"--model-memory-budget {error}, got {text!r}") from None
    refuse_wrong_limit(settings.memory_limit)


def refuse_wrong_processes(settings: "Settings") -> None:
    """Raises ValueError where several processes would not be one server for their clients."""
    if settings.processes == 1:
        return
    if sys.platform != "linux":
        raise ValueError("--processes needs Linux, whose ports may be shared by processes; leave it out")
    explicit = settings.model_control_mode == "explicit" and not settings.sagemaker_multi_model
    evicts = settings.model_memory_budget and explicit
    if settings.load_on_demand or evicts:
        flag = "--load-on-demand" if settings.load_on_demand else "--model-memory-budget in explicit mode"
        raise ValueError(
            f"--processes={settings.processes} excludes {flag}: each process would have other models in memory, and "
            "answers would depend on which of them a client meets"
        )
    if settings.rate_limit != "off":
        raise ValueError(
            f"--processes={settings.processes} excludes --rate-limit={settings.rate_limit}: processes cannot take "
            "turns with each other's resources"
        )


def refuse_wrong_ports(settings: "Settings") -> None:
    """Raises ValueError where one port is asked for in a way that it cannot be had."""
    refuse_shared_metrics(settings)
    if not settings.one_port:
        return
    asked = f"--http-port={settings.http_port} and --grpc-port={settings.grpc_port} ask for one port for both"
    if settings.http_address != settings.grpc_address:
        raise ValueError(
            f"{asked}, but --http-address={settings.http_address} and --grpc-address={settings.grpc_address} are not "
            "the same; give both the same address, or different ports"
        )
    if settings.grpc_transport != "http2":
        raise ValueError(
            f"{asked}, which --grpc-transport={settings.grpc_transport} cannot share; leave the transport out, or give "
            "them different ports"
        )


def refuse_shared_metrics(settings: "Settings") -> None:
    """Raises ValueError where a port of requests would be the metrics' own, which nobody is kept from."""
    metrics = (settings.metrics_host, settings.metrics_port)
    doors = (
        ("HTTP", settings.allow_http, settings.http_address, settings.http_port),
        ("gRPC", settings.allow_grpc, settings.grpc_address, settings.grpc_port),
    )
    for name, is_open, address, port in doors:
        if port and is_open and settings.allow_metrics and (address, port) == metrics:
            raise ValueError(
                f"--metrics-port={port} is the port for {name} already; give metrics another one, 0 for a free one, or "
                "say --allow-metrics=false"
            )


def refuse_wrong_signers(settings: "Settings") -> None:
    """Raises ValueError where somebody could believe that signatures are verified, and they are not."""
    keyless = (settings.model_signature_identity, settings.model_signature_issuer, settings.model_signature_trust)
    if any(keyless) and not all(keyless):
        raise ValueError(
            "--model-signature-identity, --model-signature-issuer and --model-signature-trust are only of use together"
        )
    signers = any((settings.model_signature_key, settings.model_signature_certificate, *keyless))
    if signers and settings.model_signature == "off":
        raise ValueError("signers of models are named: say --model-signature=require, or check, to have them verified")
    if not signers and settings.model_signature != "off":
        raise ValueError(
            f"--model-signature={settings.model_signature} needs to know who may sign: --model-signature-key, "
            "--model-signature-certificate, or --model-signature-identity with -issuer and -trust"
        )
