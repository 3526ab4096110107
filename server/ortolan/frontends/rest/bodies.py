"""The documented JSON bodies of every route but inference, which has its own codec."""

from pydantic import BaseModel, Field


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: str = Field(description="What was expected, what came and what to do.")


class ServerMetadataBody(BaseModel):
    """Who answers."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadataBody(BaseModel):
    """One input or output; -1 stands for a size that may vary."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataBody(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataBody]
    outputs: list[TensorMetadataBody]
    properties: dict[str, str] = Field({}, description="How the server treats the model, for people.")


class DurationBody(BaseModel):
    """How often, and for how many nanoseconds in all."""

    count: int
    ns: int


class InferenceStatisticsBody(BaseModel):
    """Where the time of requests went."""

    success: DurationBody
    fail: DurationBody
    queue: DurationBody
    compute_input: DurationBody
    compute_infer: DurationBody
    compute_output: DurationBody
    cache_hit: DurationBody
    cache_miss: DurationBody


class BatchStatisticsBody(BaseModel):
    """The executions with one batch size."""

    batch_size: int
    compute_input: DurationBody
    compute_infer: DurationBody
    compute_output: DurationBody


class MemoryUsageBody(BaseModel):
    """Memory that a model holds on one device."""

    type: str
    id: int
    byte_size: int


class CurvePointBody(BaseModel):
    """What one batch size takes, measured and refined while serving."""

    rows: int
    duration_ns: int


class BatchingBody(BaseModel):
    """How requests for the version are batched, and why."""

    reason: str
    max_rows: int
    batch_invariance: str = Field(description="bitwise, within tolerance, unsafe or untested")
    gain: float = Field(description="How many times as many rows per second batches do as single rows.")
    curve: list[CurvePointBody]


class ModelStatisticsBody(BaseModel):
    """The numbers of one version since it was loaded."""

    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since the epoch; 0 when there was none.")
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatisticsBody
    response_stats: dict[str, DurationBody]
    batch_stats: list[BatchStatisticsBody]
    memory_usage: list[MemoryUsageBody]
    batching: BatchingBody


class StatisticsBody(BaseModel):
    """The statistics of one or more versions."""

    model_stats: list[ModelStatisticsBody]


class IndexRequestBody(BaseModel):
    """Which models to list."""

    ready: bool = Field(False, description="Only those that are ready.")


class IndexEntryBody(BaseModel):
    """One version in the repository; only ``name`` for a model that was never loaded."""

    name: str
    version: str | None = None
    state: str | None = None
    reason: str | None = None


class InputTensorBody(BaseModel):
    """One input. ``data`` is flat or nested, row-major; its count must match ``shape``."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, bool | int | float | str] | None = None
    data: list[object] | None = None


class RequestedOutputBody(BaseModel):
    """One output that is wanted."""

    name: str
    parameters: dict[str, bool | int | float | str] | None = None


class InferenceRequestBody(BaseModel):
    """One inference. Without ``outputs``, all of them are returned."""

    id: str | None = None
    parameters: dict[str, bool | int | float | str] | None = None
    inputs: list[InputTensorBody]
    outputs: list[RequestedOutputBody] | None = None


class OutputTensorBody(BaseModel):
    """One output; ``data`` is flat and row-major."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[object] | None = None


class InferenceResponseBody(BaseModel):
    """The answer to one inference."""

    id: str | None = None
    model_name: str
    model_version: str
    parameters: dict[str, bool | int | float | str] | None = None
    outputs: list[OutputTensorBody]
