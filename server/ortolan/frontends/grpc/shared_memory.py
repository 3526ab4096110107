"""The methods for shared memory, in which clients exchange tensors with the server."""

from ortolan.core.cuda_region import CudaRegion
from ortolan.core.inference_core import InferenceCore
from ortolan.core.system_region import SystemRegion
from ortolan.frontends.grpc.call import Call, Method
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.serialized import Raw


class SharedMemoryService:
    """Registering regions of both kinds, telling which there are, and letting them go; "" names all of one kind."""

    def __init__(self, core: InferenceCore) -> None:
        self._regions = core.shared_memory
        self._whole = core.whole

    def methods(self) -> dict[str, Method]:
        return {
            "SystemSharedMemoryStatus": self.system_status,
            "SystemSharedMemoryRegister": self.system_register,
            "SystemSharedMemoryUnregister": self.system_unregister,
            "CudaSharedMemoryStatus": self.cuda_status,
            "CudaSharedMemoryRegister": self.cuda_register,
            "CudaSharedMemoryUnregister": self.cuda_unregister,
        }

    async def system_status(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        request = messages.parse(messages.SystemSharedMemoryStatusRequest, data)
        response = messages.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(SystemRegion, request.name):
            told = response.regions[region.name]
            told.name, told.key = region.name, region.key
            told.offset, told.byte_size = region.offset, region.size_bytes
        return bytes(response.SerializeToString())

    async def system_register(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        request = messages.parse(messages.SystemSharedMemoryRegisterRequest, data)
        await self._whole.register_system(request.name, request.key, request.offset, request.byte_size)
        return bytes(messages.SystemSharedMemoryRegisterResponse().SerializeToString())

    async def system_unregister(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        request = messages.parse(messages.SystemSharedMemoryUnregisterRequest, data)
        await self._whole.unregister(SystemRegion, request.name)
        return bytes(messages.SystemSharedMemoryUnregisterResponse().SerializeToString())

    async def cuda_status(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        request = messages.parse(messages.CudaSharedMemoryStatusRequest, data)
        response = messages.CudaSharedMemoryStatusResponse()
        for region in self._regions.status(CudaRegion, request.name):
            told = response.regions[region.name]
            told.name, told.device_id, told.byte_size = region.name, region.device, region.size_bytes
        return bytes(response.SerializeToString())

    async def cuda_register(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        request = messages.parse(messages.CudaSharedMemoryRegisterRequest, data)
        await self._whole.register_cuda(request.name, request.raw_handle, request.device_id, request.byte_size)
        return bytes(messages.CudaSharedMemoryRegisterResponse().SerializeToString())

    async def cuda_unregister(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        request = messages.parse(messages.CudaSharedMemoryUnregisterRequest, data)
        await self._whole.unregister(CudaRegion, request.name)
        return bytes(messages.CudaSharedMemoryUnregisterResponse().SerializeToString())
