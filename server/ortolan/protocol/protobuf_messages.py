"""The gRPC protocol's message classes, made from ``open_inference.binpb`` in a descriptor pool of our own.

The pool is private because every client library brings its own copy of these definitions to protobuf's default pool,
and two copies that differ in one comment cannot share it. Nothing here is generated code, so any protobuf runtime from
5.29 on will do.
"""

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from ortolan.errors import InvalidArgument
from ortolan.protocol.protobuf_framing import MAX_FIELDS, has_more_fields
from ortolan.protocol.serialized import Raw

INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"

QUICK_BYTES = 64 << 10
"""Whatever fields so many bytes hold, protobuf reads them in a few milliseconds."""


def message_class(full_name: str) -> Any:
    """The class of the message called ``full_name``, such as ``inference.ModelConfig``. Raises KeyError for others."""
    return GetMessageClass(POOL.FindMessageTypeByName(full_name))


def service_methods(service_full_name: str) -> tuple[MethodDescriptor, ...]:
    """A service's methods, in the order of the .proto. Raises KeyError for a service that is not ours."""
    return tuple(POOL.FindServiceByName(service_full_name).methods)


def parse(message_type: Any, data: Raw) -> Any:
    """The message of class ``message_type`` that ``data`` encodes; fields it does not know are kept, not refused.

    Raises InvalidArgument when the bytes are no such message, nest too deeply, or have more than ``MAX_FIELDS`` fields.
    """
    if len(data) > QUICK_BYTES and has_more_fields(data, MAX_FIELDS):
        raise InvalidArgument(f"the request has more than the {MAX_FIELDS} fields beside each other that are accepted")
    try:
        return message_type.FromString(bytes(data))
    except (DecodeError, RecursionError, ValueError) as error:
        # protobuf's pure Python runtime raises ValueError (text that is not UTF-8) and RecursionError of its own.
        raise InvalidArgument(
            f"the request's bytes are not a valid {message_type.DESCRIPTOR.full_name} message: "
            "expected one that is encoded as this server's .proto files say"
        ) from error


def descriptor_pool() -> DescriptorPool:
    """A new pool with the protocol's definitions, for who wants to add others to it."""
    pool = DescriptorPool()
    definitions = files("ortolan.protocol").joinpath("open_inference.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(definitions).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = descriptor_pool()

# Inference.
InferParameter = message_class("inference.InferParameter")
ModelInferRequest = message_class("inference.ModelInferRequest")
ModelInferResponse = message_class("inference.ModelInferResponse")
ModelStreamInferResponse = message_class("inference.ModelStreamInferResponse")

# Health.
ServerLiveResponse = message_class("inference.ServerLiveResponse")
ServerReadyResponse = message_class("inference.ServerReadyResponse")
ModelReadyRequest = message_class("inference.ModelReadyRequest")
ModelReadyResponse = message_class("inference.ModelReadyResponse")
HealthCheckRequest = message_class("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message_class("grpc.health.v1.HealthCheckResponse")

# What is served.
ServerMetadataResponse = message_class("inference.ServerMetadataResponse")
ModelMetadataRequest = message_class("inference.ModelMetadataRequest")
ModelMetadataResponse = message_class("inference.ModelMetadataResponse")
ModelConfig = message_class("inference.ModelConfig")
ModelConfigRequest = message_class("inference.ModelConfigRequest")
ModelConfigResponse = message_class("inference.ModelConfigResponse")
ModelStatisticsRequest = message_class("inference.ModelStatisticsRequest")
ModelStatisticsResponse = message_class("inference.ModelStatisticsResponse")

# The model repository.
RepositoryIndexRequest = message_class("inference.RepositoryIndexRequest")
RepositoryIndexResponse = message_class("inference.RepositoryIndexResponse")
RepositoryModelLoadRequest = message_class("inference.RepositoryModelLoadRequest")
RepositoryModelLoadResponse = message_class("inference.RepositoryModelLoadResponse")
RepositoryModelUnloadRequest = message_class("inference.RepositoryModelUnloadRequest")
RepositoryModelUnloadResponse = message_class("inference.RepositoryModelUnloadResponse")

# Shared memory.
SystemSharedMemoryStatusRequest = message_class("inference.SystemSharedMemoryStatusRequest")
SystemSharedMemoryStatusResponse = message_class("inference.SystemSharedMemoryStatusResponse")
SystemSharedMemoryRegisterRequest = message_class("inference.SystemSharedMemoryRegisterRequest")
SystemSharedMemoryRegisterResponse = message_class("inference.SystemSharedMemoryRegisterResponse")
SystemSharedMemoryUnregisterRequest = message_class("inference.SystemSharedMemoryUnregisterRequest")
SystemSharedMemoryUnregisterResponse = message_class("inference.SystemSharedMemoryUnregisterResponse")
CudaSharedMemoryStatusRequest = message_class("inference.CudaSharedMemoryStatusRequest")
CudaSharedMemoryStatusResponse = message_class("inference.CudaSharedMemoryStatusResponse")
CudaSharedMemoryRegisterRequest = message_class("inference.CudaSharedMemoryRegisterRequest")
CudaSharedMemoryRegisterResponse = message_class("inference.CudaSharedMemoryRegisterResponse")
CudaSharedMemoryUnregisterRequest = message_class("inference.CudaSharedMemoryUnregisterRequest")
CudaSharedMemoryUnregisterResponse = message_class("inference.CudaSharedMemoryUnregisterResponse")

# Settings.
TraceSettingRequest = message_class("inference.TraceSettingRequest")
TraceSettingResponse = message_class("inference.TraceSettingResponse")
LogSettingsRequest = message_class("inference.LogSettingsRequest")
LogSettingsResponse = message_class("inference.LogSettingsResponse")
