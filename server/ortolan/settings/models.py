"""Which models there are, where they come from, and when they are in memory."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from ortolan.settings.kinds import Seconds


class ModelSettings(BaseModel):
    """Which models there are, where they come from, and when they are in memory."""

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
        "",
        description="The name to serve a single model under, instead of its file's or directory's; the only model of a "
        "repository is known by it as well.",
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
    model_repository_wait_secs: Seconds = Field(
        0.0,
        description="How long a model repository may take to be there at start, where it is mounted late; then exit.",
    )
    listen_when_loaded: bool = Field(
        False, description="Open the ports only when the models are loaded, for balancers that ask for no readiness."
    )
    exit_timeout_secs: Seconds = Field(25.0, description="How long requests that are running may take when stopping.")
    drain_delay_secs: Seconds = Field(
        5.0, description="How long to keep answering, not ready, after SIGTERM, so that balancers can turn away."
    )
    model_memory_budget: str = Field(
        "",
        description="What all models together may hold in memory: bytes such as 8GiB, or a percentage of what the "
        "process may use. Models that were not asked for longest are unloaded for others; any amount if not given.",
    )
    memory_limit: str = Field(
        "auto",
        description="What all processes of the server together may use: bytes or a percentage, as above; whoever needs "
        "more is refused with 503. auto: 90% of what there is, but any amount with a GPU; off: any amount.",
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

    @property
    def downloads(self) -> Path | None:
        return None if self.download_directory == "auto" else Path(self.download_directory)
