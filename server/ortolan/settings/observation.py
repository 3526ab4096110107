"""What is told of what goes on, and what is kept and shared of requests."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from ortolan.core.log_settings import LogSettings
from ortolan.settings.kinds import Count, Port


class ObservationSettings(BaseModel):
    """What is told of what goes on, and what is kept and shared of requests."""

    allow_client_shm: bool = Field(
        False, description="Let clients register shared memory, and send and receive tensors in it."
    )
    allow_metrics: bool = Field(
        True, description="Tell Prometheus: listen for it, and answer /metrics on the HTTP port as well."
    )
    metrics_address: str = Field(
        "", description="The address to listen on for Prometheus; the HTTP address if not given."
    )
    metrics_port: Port = Field(8002, description="The port to listen on for Prometheus; 0 picks a free one.")
    allow_gpu_metrics: bool = Field(True, description="Tell Prometheus of the machine's GPUs (with ortolan[gpu]).")
    allow_cpu_metrics: bool = Field(True, description="Tell Prometheus of the machine's processor and memory.")
    metrics_interval_ms: Annotated[int, Field(ge=1, le=3_600_000)] = Field(
        2000, description="How often utilization, processor and GPUs are looked at for the metrics; at least 100."
    )
    metrics_config: tuple[str, ...] = Field(
        (),
        description="SETTING=VALUE: which of Triton's latencies Prometheus is told: counter_latencies=true|false, "
        "histogram_latencies=true|false, summary_latencies=true|false, summary_quantiles=0.5:0.05,0.9:0.01. May be "
        "given several times.",
    )
    log_verbose: Count = Field(0, description="1: debugging lines as well; 2: those of libraries too.")
    log_info: bool = Field(True, description="Log lines that say what goes on.")
    log_warning: bool = Field(True, description="Log warnings.")
    log_error: bool = Field(True, description="Log errors.")
    log_file: str = Field("", description="The file to append log lines to, instead of standard error.")
    log_format: Literal["text", "json", "default", "ISO8601"] = Field(
        "text", description="How log lines look; default and ISO8601, Triton's names, are text."
    )
    access_log: Literal["off", "errors", "on", "all"] = Field(
        "off",
        description="A log line for each request that is answered: errors for those that fail, on for all but probes "
        "of health and metrics, all for these as well (docs/logging.md).",
    )
    access_log_file: str = Field(
        "", description="The file to append these lines to, instead of where all others go; - for standard output."
    )
    trace_config: tuple[str, ...] = Field(
        (),
        description="[MODE,]SETTING=VALUE: which requests are traced, and to where: level=TIMESTAMPS or TENSORS, "
        "rate=N, count=N, mode=triton, triton,file=PATH (without it nothing is written), triton,log-frequency=N; or "
        "mode=opentelemetry, opentelemetry,url=URL, opentelemetry,resource=KEY=VALUE (docs/tracing.md). May be given "
        "several times.",
    )
    cache_config: tuple[str, ...] = Field(
        (),
        description="local,size=BYTES: keep the answers of models that have response_cache enabled, in so much memory.",
    )
    response_cache_byte_size: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="The older name of --cache-config local,size=BYTES; 0: no cache."
    )

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
