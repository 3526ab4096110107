"""The methods of ``inference.GRPCInferenceService``: plain coroutines from request bytes to response bytes.

They know nothing of the transport below them, so that it can be changed.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ortolan.core.inference_core import InferenceCore, TensorMetadata
from ortolan.core.whole_server import ToldVersion
from ortolan.errors import NotFound, Unsupported
from ortolan.execution.latencies import Latencies
from ortolan.execution.model_statistics import BatchSizeStatistics, Duration
from ortolan.frontends.access.reach import check_load, check_unload
from ortolan.frontends.grpc.call import Call, Method
from ortolan.frontends.grpc.traced import OK, begun_trace, code_of
from ortolan.frontends.server_timing import server_timing
from ortolan.protocol import protobuf_codec
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.remembered_messages import RememberedMessages
from ortolan.protocol.serialized import Raw, Serialized
from ortolan.repository import config_rendering

_INFERENCE_STATISTICS = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)


class InferenceService:
    """One coroutine for each unary method; errors rise as ``OrtolanError`` kinds."""

    def __init__(self, core: InferenceCore, timing: bool) -> None:
        """``timing``: whether each inference tells where its time went."""
        self._core = core
        self._timing = timing
        self._requests = RememberedMessages()

    def methods(self) -> dict[str, Method]:
        """Every method that this server answers, by its name in the service."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_model_load,
            "RepositoryModelUnload": self.repository_model_unload,
        }

    async def model_infer(self, data: Raw, call: Call) -> Serialized:
        tracing = self._core.tracing
        trace = begun_trace(tracing, "ModelInfer", call.metadata) if tracing.on else None
        code = OK
        try:
            request = call.on_request(self._requests.decode(data))
            response = await self._core.infer(request, trace)
            if call.note is not None:
                call.note.inferred(response)
            start_ns = time.monotonic_ns()
            encoded = protobuf_codec.encode_response(response)
        except BaseException as error:
            code = code_of(error)
            raise
        finally:
            if trace is not None:
                call.trailers.extend(trace.response_headers)
                if call.note is not None:
                    call.note.trace = trace
                trace.code = code
                trace.sent()
        if self._timing and response.timing is not None:
            call.trailers.append(("server-timing", server_timing(response.timing, time.monotonic_ns() - start_ns)))
        return encoded

    async def server_live(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        return _bytes(messages.ServerLiveResponse(live=True))

    async def server_ready(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        return _bytes(messages.ServerReadyResponse(ready=await self._core.whole.is_ready()))

    async def model_ready(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.ModelReadyRequest, data)
        call.check_model(request.name)
        try:
            ready = self._core.model_ready(request.name, request.version)
        except NotFound:
            # Clients take an error here for a failure of the question; Triton answers "not ready".
            ready = False
        return _bytes(messages.ModelReadyResponse(ready=ready))

    async def server_metadata(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        found = self._core.metadata
        return _bytes(
            messages.ServerMetadataResponse(name=found.name, version=found.version, extensions=found.extensions)
        )

    async def model_metadata(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.ModelMetadataRequest, data)
        call.check_model(request.name)
        found = await self._core.model_metadata(request.name, request.version)
        response = messages.ModelMetadataResponse(name=found.name, versions=found.versions, platform=found.platform)
        _add_tensors(response.inputs, found.inputs)
        _add_tensors(response.outputs, found.outputs)
        return _bytes(response)

    async def model_config(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.ModelConfigRequest, data)
        call.check_model(request.name)
        config = await self._core.model_config(request.name, request.version)
        return _bytes(messages.ModelConfigResponse(config=config_rendering.to_message(config)))

    async def model_statistics(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.ModelStatisticsRequest, data)
        call.check_model(request.name)
        response = messages.ModelStatisticsResponse()
        for version in await self._core.whole.statistics(request.name, request.version):
            _fill_statistics(response.model_stats.add(), version)
        return _bytes(response)

    async def repository_index(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        request = messages.parse(messages.RepositoryIndexRequest, data)
        _refuse_repository_name(request.repository_name)
        response = messages.RepositoryIndexResponse()
        for entry in await self._core.whole.index(request.ready):
            response.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        return _bytes(response)

    async def repository_model_load(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.RepositoryModelLoadRequest, data)
        call.check_model(request.model_name)
        _refuse_repository_name(request.repository_name)
        parameters = _chosen_values(request.parameters)
        check_load(call.grant, parameters)
        await self._core.whole.load(request.model_name, parameters)
        return _bytes(messages.RepositoryModelLoadResponse())

    async def repository_model_unload(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.RepositoryModelUnloadRequest, data)
        call.check_model(request.model_name)
        _refuse_repository_name(request.repository_name)
        parameters = _chosen_values(request.parameters)
        check_unload(call.grant, parameters)
        await self._core.whole.unload(request.model_name, parameters)
        return _bytes(messages.RepositoryModelUnloadResponse())


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _refuse_repository_name(name: str) -> None:
    if name:
        raise Unsupported("'repository_name' specification is not supported")


def _chosen_values(parameters: Mapping[str, Any]) -> dict[str, object]:
    """The value that each parameter of the model repository has; None for one without."""
    choices = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], choice) if choice else None for name, choice in choices.items()}


def _add_tensors(field: Any, tensors: Iterable[TensorMetadata]) -> None:
    for tensor in tensors:
        field.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)


def _fill_statistics(message: Any, told: ToldVersion) -> None:
    numbers = told.numbers.statistics
    message.name = told.version.name
    message.version = told.version.number_text
    message.last_inference = numbers.last_inference_ms
    message.inference_count = numbers.inference_count
    message.execution_count = numbers.execution_count
    if told.numbers.memory_bytes:
        message.memory_usage.add(type="CPU", id=0, byte_size=told.numbers.memory_bytes)
    for name in _INFERENCE_STATISTICS:
        _fill_duration(getattr(message.inference_stats, name), getattr(numbers, name))
    for size, batch in sorted(numbers.batches.items()):
        _fill_batch(message.batch_stats.add(batch_size=size), batch)


def _fill_batch(message: Any, batch: BatchSizeStatistics) -> None:
    for name in ("compute_input", "compute_infer", "compute_output"):
        _fill_duration(getattr(message, name), getattr(batch, name))


def _fill_duration(message: Any, duration: Duration | Latencies) -> None:
    message.SetInParent()
    message.count = duration.count
    message.ns = duration.ns
