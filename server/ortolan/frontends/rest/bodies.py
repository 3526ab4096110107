"""The documented JSON bodies of every route but inference, which has its own codec."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ortolan.inference.datatypes import DATATYPES
from ortolan.protocol.json_tensors import MAX_DIMENSIONS

NumberText = Annotated[str, Field(pattern="^[0-9]{1,9}$")]
CountText = Annotated[str, Field(pattern="^(-1|[0-9]{1,9})$")]


DatatypeName = Annotated[str, Field(json_schema_extra={"enum": [datatype.name for datatype in DATATYPES]})]
Shape = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_DIMENSIONS)]


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: str = Field(description="What was expected, what came and what to do.")


class ServerMetadataBody(BaseModel):
    """Who answers."""

    name: str
    version: str
    extensions: list[str]


class ModelNamesBody(BaseModel):
    """The models that have a ready version."""

    models: list[str]


class AliveBody(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class LiveBody(BaseModel):
    """The process answers."""

    live: Literal[True] = True


class ReadyBody(BaseModel):
    """Whether requests should be sent to this server."""

    ready: bool


class ModelReadyBody(BaseModel):
    """Whether requests may be sent to a model."""

    name: str
    ready: bool


class TensorMetadataBody(BaseModel):
    """One input or output; -1 stands for a size that may vary."""

    name: str
    datatype: DatatypeName
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


class LoadRequestBody(BaseModel):
    """What to load a model from; nothing to load it from the repository."""

    parameters: dict[str, str] | None = Field(
        None,
        description="'config': a model configuration as JSON text, in place of the model's own. 'file:<path>', such as "
        "'file:1/model.onnx': a file as base64 text; with any, the model's directory is made of these alone.",
    )


class UnloadRequestBody(BaseModel):
    """How to unload a model."""

    parameters: dict[Literal["unload_dependents"], bool] | None = Field(
        None, description="Unload what was loaded only because this ensemble needs it as well."
    )


class IndexEntryBody(BaseModel):
    """One version in the repository; only ``name`` for a model that was never loaded."""

    name: str
    version: str | None = None
    state: str | None = None
    reason: str | None = None


class TraceSettingsBody(BaseModel):
    """Which requests are traced."""

    trace_level: list[Literal["OFF", "TIMESTAMPS", "TENSORS"]]
    trace_rate: str = Field(description="Every so manieth request is traced.")
    trace_count: str = Field(description="How many requests will be traced yet; -1 for no end.")
    log_frequency: str = Field(description="After how many traces another file is begun; 0 for never.")
    trace_file: str = Field(description="Where traces are written; nothing is traced without it.")
    trace_mode: Literal["triton", "opentelemetry"]


class TraceChangeBody(BaseModel):
    """New trace settings; null for a model's is to have that of all models again, and for theirs the operator's."""

    model_config = ConfigDict(extra="forbid")

    trace_level: (
        list[Literal["TIMESTAMPS", "TENSORS", "MIN", "MAX"]]
        | Annotated[list[Literal["OFF"]], Field(max_length=1)]
        | Literal["OFF", "TIMESTAMPS", "TENSORS", "MIN", "MAX"]
        | None
    ) = Field(None, description="MIN and MAX are old names of TIMESTAMPS.")
    trace_rate: NumberText | Annotated[list[NumberText], Field(max_length=1)] | None = None
    trace_count: CountText | Annotated[list[CountText], Field(max_length=1)] | None = None
    log_frequency: NumberText | Annotated[list[NumberText], Field(max_length=1)] | None = None


class LogSettingsBody(BaseModel):
    """What is logged."""

    log_file: str = Field(description="Where lines go; empty for standard error.")
    log_info: bool
    log_warning: bool
    log_error: bool
    log_verbose_level: int = Field(description="1: debugging lines as well; 2: those of libraries too.")
    log_format: Literal["default", "ISO8601", "json"] = Field(description="The first two are both text.")


class LogChangeBody(BaseModel):
    """New log settings; what is left out or null stays as it is."""

    model_config = ConfigDict(extra="forbid")

    log_info: bool | None = None
    log_warning: bool | None = None
    log_error: bool | None = None
    log_verbose_level: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    log_format: Literal["default", "ISO8601", "json"] | None = None


class InputTensorBody(BaseModel):
    """One input. ``data`` is flat or nested, row-major; its count must match ``shape``."""

    name: str
    shape: Shape
    datatype: DatatypeName
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
    datatype: DatatypeName
    shape: Shape
    parameters: dict[str, int] | None = None
    data: list[object] | None = None


class InferenceResponseBody(BaseModel):
    """The answer to one inference."""

    id: str | None = None
    model_name: str
    model_version: str
    parameters: dict[str, bool | int | float | str] | None = None
    outputs: list[OutputTensorBody]


class GenerateResponseBody(BaseModel):
    """The answer to one request to generate: beside these its outputs, each a value or a flat list."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    model_name: str
    model_version: str


class PredictionsBody(BaseModel):
    """Predictions in the form of the request: one for each instance, or whole outputs."""

    predictions: object


class PlaceRequestBody(BaseModel):
    """What SageMaker wants loaded."""

    model_name: str = Field(description="Any text; later requests name the model so.")
    url: str = Field(description="The directory on this machine that the model is in.")


class PlacedModelBody(BaseModel):
    """A model that SageMaker had loaded, in its words."""

    modelName: str  # noqa: N815 - the contract's
    modelUrl: str  # noqa: N815 - the contract's


class PlacedModelsBody(BaseModel):
    """Some of them; the rest by ``next_page_token``."""

    models: list[PlacedModelBody]
    nextPageToken: str | None = None  # noqa: N815 - the contract's
