"""What the operator chose: one frozen object, checked once.

Every field is a flag (``http_port`` → ``--http-port``) and an environment variable (``ORTOLAN_HTTP_PORT``); flags beat
the environment. Names and defaults are tritonserver's where it has the flag, but for the addresses: this server listens
on 127.0.0.1 unless told otherwise.
"""

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ortolan.core.log_settings import LogSettings
from ortolan.core.memory_amount import amount_of
from ortolan.errors import StartupError

ENVIRONMENT_PREFIX = "ORTOLAN_"
MODEL_KEY = "ORTOLAN_MODEL_KEY"

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Milliseconds = Annotated[int, Field(ge=0, lt=2**31)]


class Settings(BaseModel):
    """Valid by existing. Durations are seconds, sizes are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_repository: tuple[str, ...] = Field(
        (),
        description="A model repository, one model's directory, or a .onnx file: a path, or an address that begins "
        "with s3, gs, az, as, hf, oci or https, and ://. May be given several times.",
    )
    download_directory: str = Field(
        "auto",
        description="The directory that keeps copies of repositories that are elsewhere; auto: in the user's cache, or "
        "where TRITON_AWS_MOUNT_DIRECTORY and the like say.",
    )
    download_concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="Files that are fetched at once from a repository that is elsewhere."
    )
    model_name: str = Field(
        "", description="The name to serve a single model under, instead of its file's or directory's."
    )
    model_control_mode: Literal["none", "poll", "explicit"] = Field(
        "none",
        description="none: load all at start; poll: follow the repository; explicit: load and unload by the API.",
    )
    load_model: tuple[str, ...] = Field(
        (), description="A model to load at start in explicit mode; * for all. May be given several times."
    )
    repository_poll_secs: Annotated[float, Field(gt=0, le=86_400)] = Field(
        15.0, description="How often poll mode looks at the repository where no file events tell it to."
    )
    repository_quiet_secs: Annotated[float, Field(ge=0, le=3600)] = Field(
        0.5, description="How long a model's files must not have changed before poll mode loads it."
    )
    model_namespacing: bool = Field(
        False,
        description="Serve models that several repositories have as REPOSITORY::MODEL; without it they are not served.",
    )
    disable_auto_complete_config: bool = Field(False, description="Refuse models whose config.pbtxt is not complete.")
    model_config_name: str = Field("", description="Use configs/NAME.pbtxt of each model that has it.")
    default_max_batch_size: Annotated[int, Field(ge=0, le=65_536)] = Field(
        4, description="The batch size of models that can batch and do not say how far."
    )
    strict_readiness: bool = Field(True, description="Ready only while every model is ready.")
    exit_on_error: bool = Field(True, description="Exit when a model cannot be loaded at start.")
    exit_timeout_secs: Seconds = Field(30.0, description="How long requests that are running may take when stopping.")
    drain_delay_secs: Seconds = Field(
        5.0, description="How long to keep answering, not ready, after SIGTERM, so that balancers can turn away."
    )
    model_memory_budget: str = Field(
        "",
        description="What all models together may hold in memory: bytes such as 8GiB, or a percentage of what the "
        "process may use. Models that were not asked for longest are unloaded for others; any amount if not given.",
    )
    load_on_demand: bool = Field(
        False, description="Load models when they are first asked, and again when they were unloaded for others."
    )
    load_on_demand_wait_secs: Seconds = Field(
        30.0, description="How long a request waits for its model to be loaded; then 503, and the load goes on."
    )
    pin_model: tuple[str, ...] = Field(
        (),
        description="A model that is never unloaded for others or for being idle, and with --load-on-demand is loaded "
        "at start. May be given several times.",
    )
    model_idle_secs: Seconds = Field(
        0.0, description="Unload models that nobody has asked for so long; 0: never. Needs --load-on-demand."
    )
    arena_idle_secs: Seconds = Field(
        30.0, description="When a model that nobody asks gives back what it keeps for large requests; 0: never."
    )
    processes: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Processes that serve on the same ports, each with all models; they share large ones' weights."
    )
    model_load_thread_count: Annotated[int, Field(ge=1, le=256)] = Field(4, description="Models loaded at once.")

    device: Literal[
        "auto", "cpu", "cuda", "tensorrt", "migraphx", "rocm", "directml", "openvino", "coreml", "xnnpack"
    ] = Field("auto", description="Where models run that do not say it themselves; auto: a GPU if there is one.")
    intra_op_threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Threads that compute one request, for models that do not say it themselves."
    )
    fallback: Literal["forbid", "allow"] = Field(
        "forbid", description="Whether models may run on the CPU when the provider they ask for does not come up."
    )
    max_queue_size: Annotated[int, Field(ge=1)] = Field(
        4096, description="Requests that may wait for one model version; more are refused with 503."
    )

    max_queue_bytes: Annotated[int, Field(ge=1)] = Field(
        1 << 30,
        description="Bytes of tensors that may wait for one model version, and of inputs in shared memory that may "
        "be held at once; more are refused with 503.",
    )
    max_execution_secs: Seconds = Field(
        0.0, description="When a run is taken for hung and ended, for models that do not say it themselves; 0: never."
    )
    rate_limit: Literal["off", "execution_count"] = Field(
        "off",
        description="execution_count: an instance runs only while it holds the resources of its "
        "instance_group.rate_limiter, in the order of executions times priority; off: whenever there is work.",
    )
    rate_limit_resource: tuple[str, ...] = Field(
        (),
        description="NAME:COUNT[:DEVICE]: how much of a resource there is, on each device if none is named; without "
        "any, as much as the instance asks for that needs most. May be given several times.",
    )
    calibration_cache: str = Field(
        "auto",
        description="The directory that keeps what was measured of models; auto: in the user's cache; none: nowhere.",
    )
    compiled_cache_directory: str = Field(
        "auto",
        description="The directory that keeps compiled models, which load faster and are shared by all servers of a "
        "user; auto: in the user's cache; off: none are kept.",
    )
    compiled_cache_size: Annotated[int, Field(ge=1)] = Field(
        16 << 30, description="The most bytes of compiled models to keep; the ones used longest ago go first."
    )
    tensorrt_cache_directory: str = Field(
        "auto",
        description="The directory that keeps the engines that TensorRT builds, which takes it minutes; auto: in the "
        "user's cache; off: none are kept.",
    )
    model_copy_directory: str = Field(
        "",
        description="Where the server keeps its own copies of models while they are loaded; the system's temporary "
        "directory if not given. On the repository's file system they may share its blocks.",
    )
    external_data_hard_links: Literal["allow", "refuse"] = Field(
        "allow", description="Whether files with external data may have further names, which may be anywhere."
    )
    model_manifest: Literal["check", "require", "off"] = Field(
        "check", description="Whether models' files are compared with SHA256SUMS beside them; require: it must be."
    )
    golden_requests: Literal["check", "require", "off"] = Field(
        "check", description="Whether models are tried with test_data_set_* beside them; require: these must be there."
    )
    model_signature: Literal["off", "check", "require"] = Field(
        "off",
        description="Whether models are compared with what was signed in model.sig beside them; require: it must be.",
    )
    model_signature_key: tuple[str, ...] = Field(
        (), description="A file with the public key of somebody who may sign models. May be given several times."
    )
    model_signature_certificate: tuple[str, ...] = Field(
        (), description="A file with certificates of those who certify signers of models. May be given several times."
    )
    model_signature_identity: str = Field(
        "", description="Who may sign models by sigstore, such as an e-mail address or a workflow's address."
    )
    model_signature_issuer: str = Field("", description="Who vouches for that identity: an OpenID Connect issuer.")
    model_signature_trust: str = Field(
        "", description="The file with sigstore's ClientTrustConfig, by which such signatures are verified."
    )
    model_key_file: tuple[str, ...] = Field(
        (),
        description="A file with keys of encrypted models, one a line; ORTOLAN_MODEL_KEY may hold keys as well. "
        "May be given several times.",
    )
    server_timing: bool = Field(
        False,
        description="Send where the time of a gRPC request went as trailing metadata; over HTTP it is always there.",
    )

    id: str = Field("ortolan", description="The server's name in its metadata.")
    allow_http: bool = Field(True, description="Listen for HTTP.")
    http_address: str = Field("127.0.0.1", description="The address to listen on for HTTP.")
    http_port: Port = Field(8000, description="The port to listen on for HTTP; 0 picks a free one.")
    http_max_input_size: Annotated[int, Field(ge=1)] = Field(
        64 << 20, description="The largest request in bytes, over HTTP and gRPC."
    )
    http_header_forward_pattern: str = Field(
        "", description="HTTP headers whose name contains a match of this expression become request parameters."
    )
    http_restricted_api: tuple[str, ...] = Field(
        (),
        description="CATEGORY[,CATEGORY...]:HEADER=VALUE: routes that only answer requests with that header. "
        "May be given several times.",
    )
    allow_grpc: bool = Field(True, description="Listen for gRPC.")
    grpc_address: str = Field("127.0.0.1", description="The address to listen on for gRPC.")
    grpc_port: Port = Field(
        8001, description="The port to listen on for gRPC; 0 picks a free one, and that of HTTP is one port for both."
    )
    grpc_header_forward_pattern: str = Field(
        "", description="gRPC metadata whose name contains a match of this expression becomes request parameters."
    )
    grpc_restricted_protocol: tuple[str, ...] = Field(
        (),
        description="CATEGORY[,CATEGORY...]:KEY=VALUE: methods that only answer calls with the metadata "
        "triton-grpc-protocol-KEY. May be given several times.",
    )
    grpc_transport: Literal["http2", "grpcio"] = Field(
        "http2", description="What carries gRPC: the server's own HTTP/2, which is the faster one, or grpcio's."
    )
    grpc_infer_response_compression_level: Literal["none", "low", "medium", "high"] = Field(
        "none", description="How far inference responses are compressed over gRPC."
    )
    grpc_keepalive_time: Milliseconds = Field(
        7_200_000, description="Milliseconds without traffic after which the server pings a gRPC client."
    )
    grpc_keepalive_timeout: Milliseconds = Field(
        20_000, description="Milliseconds that a pinged gRPC client has to answer."
    )
    grpc_keepalive_permit_without_calls: bool = Field(
        False, description="Whether gRPC keep-alive pings are sent and taken while no call is under way."
    )
    grpc_http2_max_pings_without_data: Count = Field(
        2, description="Pings that the server may send over gRPC without sending data; 0: any number."
    )
    grpc_http2_min_recv_ping_interval_without_data: Milliseconds = Field(
        300_000, description="Milliseconds that a gRPC client must leave between pings while it sends no data."
    )
    grpc_http2_max_ping_strikes: Count = Field(
        2, description="Pings beyond that which a gRPC client may send before its connection is closed; 0: any number."
    )
    grpc_max_connection_age: Milliseconds = Field(
        0, description="Milliseconds after which a gRPC connection is asked to close; 0: never."
    )
    grpc_max_connection_age_grace: Milliseconds = Field(
        0, description="Milliseconds that calls may take after that; 0: as long as they need."
    )
    allow_client_shm: bool = Field(
        False, description="Let clients register shared memory, and send and receive tensors in it."
    )
    allow_metrics: bool = Field(True, description="Listen for Prometheus.")
    metrics_address: str = Field(
        "", description="The address to listen on for Prometheus; the HTTP address if not given."
    )
    metrics_port: Port = Field(8002, description="The port to listen on for Prometheus; 0 picks a free one.")

    log_verbose: Count = Field(0, description="1: debugging lines as well; 2: those of libraries too.")
    log_info: bool = Field(True, description="Log lines that say what goes on.")
    log_warning: bool = Field(True, description="Log warnings.")
    log_error: bool = Field(True, description="Log errors.")
    log_file: str = Field("", description="The file to append log lines to, instead of standard error.")
    log_format: Literal["text", "json", "default", "ISO8601"] = Field(
        "text", description="How log lines look; default and ISO8601, Triton's names, are text."
    )
    trace_config: tuple[str, ...] = Field(
        (),
        description="[MODE,]SETTING=VALUE: which requests are traced, and to where: level=TIMESTAMPS or TENSORS, "
        "rate=N, count=N, mode=triton, triton,file=PATH (without it nothing is written), triton,log-frequency=N. "
        "May be given several times.",
    )

    cache_config: tuple[str, ...] = Field(
        (),
        description="local,size=BYTES: keep the answers of models that have response_cache enabled, in so much memory.",
    )
    response_cache_byte_size: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="The older name of --cache-config local,size=BYTES; 0: no cache."
    )

    @field_validator(
        "model_repository",
        "load_model",
        "rate_limit_resource",
        "model_signature_key",
        "model_signature_certificate",
        "model_key_file",
        "pin_model",
        mode="before",
    )
    @classmethod
    def _several(cls, value: object) -> object:
        """One text, as the environment has it, stands for a list parted by commas. Blank parts are none."""
        return _parts(value, ",")

    @field_validator("http_restricted_api", "grpc_restricted_protocol", "trace_config", "cache_config", mode="before")
    @classmethod
    def _several_with_commas(cls, value: object) -> object:
        """As above, but parted by semicolons, because each part may have commas of its own."""
        return _parts(value, ";")

    @field_validator("*", mode="before")
    @classmethod
    def _without_blanks(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.load_model and self.model_control_mode != "explicit":
            raise ValueError("--load-model needs --model-control-mode=explicit")
        if "*" in self.load_model and len(self.load_model) > 1:
            raise ValueError("--load-model=* must be the only --load-model")
        if not (self.allow_http or self.allow_grpc):
            raise ValueError("at least one of --allow-http and --allow-grpc must be true")
        refuse_wrong_signers(self)
        if self.model_idle_secs and not self.load_on_demand:
            raise ValueError("--model-idle-secs needs --load-on-demand, or nothing would load the models again")
        refuse_wrong_budget(self.model_memory_budget)
        refuse_wrong_processes(self)
        refuse_wrong_ports(self)
        return self

    @property
    def one_port(self) -> bool:
        """Whether HTTP and gRPC are on the same port."""
        return self.allow_http and self.allow_grpc and self.http_port == self.grpc_port != 0

    @property
    def calibration_directory(self) -> Path | None:
        if self.calibration_cache == "none":
            return None
        if self.calibration_cache != "auto":
            return Path(self.calibration_cache)
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return None if base.startswith("~") else Path(base) / "ortolan" / "calibration"

    @property
    def compiled_models(self) -> Path | None:
        if self.compiled_cache_directory in ("off", "none", ""):
            return None
        if self.compiled_cache_directory != "auto":
            return Path(self.compiled_cache_directory).absolute()
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        # A user whom the system does not know has no home: it would be one of this name in the working directory.
        return None if base.startswith("~") else Path(base).absolute() / "ortolan" / "compiled"

    @property
    def tensorrt_engines(self) -> Path | None:
        if self.tensorrt_cache_directory in ("off", "none", ""):
            return None
        if self.tensorrt_cache_directory != "auto":
            return Path(self.tensorrt_cache_directory).absolute()
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return None if base.startswith("~") else Path(base).absolute() / "ortolan" / "tensorrt"

    @property
    def downloads(self) -> Path | None:
        return None if self.download_directory == "auto" else Path(self.download_directory)

    @property
    def model_copies(self) -> Path | None:
        return Path(self.model_copy_directory) if self.model_copy_directory else None

    @property
    def metrics_host(self) -> str:
        return self.metrics_address or self.http_address

    @property
    def log_settings(self) -> LogSettings:
        return LogSettings(
            log_file=self.log_file,
            log_info=self.log_info,
            log_warning=self.log_warning,
            log_error=self.log_error,
            log_verbose_level=self.log_verbose,
            log_format="default" if self.log_format == "text" else self.log_format,
        )


def _parts(value: object, separator: str) -> object:
    if isinstance(value, str):
        value = value.split(separator)
    return [part.strip() for part in map(str, value) if part.strip()] if isinstance(value, list) else value


def refuse_wrong_budget(text: str) -> None:
    """Raises ValueError where the memory budget is no amount."""
    try:
        amount_of(text or "100%", 1)
    except ValueError as error:
        raise ValueError(f"--model-memory-budget {error}, got {text!r}") from None


def refuse_wrong_processes(settings: Settings) -> None:
    """Raises ValueError where several processes would not be one server for their clients."""
    if settings.processes == 1:
        return
    if sys.platform != "linux":
        raise ValueError("--processes needs Linux, whose ports may be shared by processes; leave it out")
    evicts = settings.model_memory_budget and settings.model_control_mode == "explicit"
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


def refuse_wrong_ports(settings: Settings) -> None:
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


def refuse_shared_metrics(settings: Settings) -> None:
    """Raises ValueError where metrics would be on the port of requests, and so be told to everyone who infers."""
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


def refuse_wrong_signers(settings: Settings) -> None:
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


def model_key_texts(environment: Mapping[str, str]) -> str:
    """The keys of encrypted models from the environment, one a line; no setting, so that no flag shows them."""
    return environment.get(MODEL_KEY, "").replace(",", "\n")


def is_list(field: str) -> bool:
    """Whether the setting may be given several times."""
    return get_origin(Settings.model_fields[field].annotation) is tuple


def flag_of(field: str) -> str:
    return "--" + field.replace("_", "-")


def read_settings(flags: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    """The settings from flags (by field name) and environment. Raises StartupError naming each wrong one."""
    values: dict[str, object] = {}
    for name, text in environment.items():
        field = name[len(ENVIRONMENT_PREFIX) :].lower() if name.startswith(ENVIRONMENT_PREFIX) else ""
        if field in Settings.model_fields and text:
            values[field] = text
    values.update(flags)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise StartupError("; ".join(_explained(problem) for problem in error.errors())) from None


def held_requests(environment: Mapping[str, str]) -> int:
    """Triton's hook for tests of schedulers: hold each model's queue until so many requests wait; 0 without it."""
    text = environment.get("TRITONSERVER_DELAY_SCHEDULER", "")
    return int(text) if text.isdecimal() else 0


def likely_misspelt(environment: Mapping[str, str]) -> list[str]:
    """One sentence for each ``ORTOLAN_*`` variable that is nearly one of ours.

    Others are left alone: Kubernetes sets ``ORTOLAN_PORT`` and the like in every pod beside a service called ortolan.
    """
    known = [MODEL_KEY, *(ENVIRONMENT_PREFIX + field.upper() for field in Settings.model_fields)]
    sentences: list[str] = []
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
            sentences += [f"the environment variable {name} has no effect; did you mean {n}?" for n in nearest]
    return sentences


def _explained(problem: Mapping[str, object]) -> str:
    location = problem["loc"]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not isinstance(location, tuple) or not location:
        return message
    field = str(location[0])
    return f"{flag_of(field)} ({ENVIRONMENT_PREFIX}{field.upper()}): {message}, got {str(problem['input'])!r}"
