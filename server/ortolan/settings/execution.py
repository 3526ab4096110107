"""Where and how models run, and what is kept of what was found out about them."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from ortolan.settings.kinds import Seconds


class ExecutionSettings(BaseModel):
    """Where and how models run, and what is kept of what was found out about them."""

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
        600.0, description="When a run is taken for hung and ended, for models that do not say it themselves; 0: never."
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
