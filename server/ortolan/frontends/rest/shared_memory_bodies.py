"""The documented JSON bodies of the shared memory routes."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

_Size = Annotated[int, Field(ge=1, lt=2**64)]
_Offset = Annotated[int, Field(ge=0, lt=2**64)]


class SystemRegionRequestBody(BaseModel):
    """A part of a POSIX shared memory object that the client has created."""

    key: str = Field(description="The object's name, with or without a slash before it.")
    offset: _Offset = Field(0, description="Where in the object the region begins, in bytes.")
    byte_size: _Size


class CudaRegionRequestBody(BaseModel):
    """The beginning of an allocation on a GPU that the client has made."""

    raw_handle: dict[Literal["b64"], str] = Field(description="The CUDA IPC handle in base 64.", min_length=1)
    device_id: Annotated[int, Field(ge=0, lt=2**64)]
    byte_size: _Size


class SystemRegionBody(BaseModel):
    """A region that was registered."""

    name: str
    key: str
    offset: int
    byte_size: int


class CudaRegionBody(BaseModel):
    """A region that was registered."""

    name: str
    device_id: int
    byte_size: int
