"""The four clients of Triton's library, and shared memory as they make it."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as client_memory
from server_process import ServerProcess
from tritonclient.utils import InferenceServerException


@dataclass(frozen=True)
class Door:
    """One way in: a client of its own, the class of its inputs and outputs, and what it calls an error."""

    module: Any
    client: Any
    protocol: str

    def input(self, shape: tuple[int, ...], datatype: str, region: str, size: int, offset: int = 0) -> Any:
        given = self.module.InferInput("x", list(shape), datatype)
        given.set_shared_memory(region, size, offset)
        return given

    def output(self, region: str, size: int, offset: int = 0, name: str = "y") -> Any:
        wanted = self.module.InferRequestedOutput(name)
        wanted.set_shared_memory(region, size, offset)
        return wanted

    def status(self, error: InferenceServerException) -> int:
        """The HTTP status, also of what gRPC said."""
        name = error.status().removeprefix("StatusCode.")
        codes = {"INVALID_ARGUMENT": 400, "ALREADY_EXISTS": 400, "NOT_FOUND": 404, "UNIMPLEMENTED": 501}
        return int(name) if name.isdecimal() else codes[name]


DOORS = {
    "http": Door(tritonclient.http, tritonclient.http.InferenceServerClient, "http"),
    "http-aio": Door(tritonclient.http, tritonclient.http.aio.InferenceServerClient, "http"),
    "grpc": Door(tritonclient.grpc, tritonclient.grpc.InferenceServerClient, "grpc"),
    "grpc-aio": Door(tritonclient.grpc, tritonclient.grpc.aio.InferenceServerClient, "grpc"),
}


class Client:
    """A client of either kind, whose answers are all awaited."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def __call__(self, method: str, *arguments: Any, **named: Any) -> Any:
        answer = getattr(self._client, method)(*arguments, **named)
        return await answer if isawaitable(answer) else answer

    async def refusal(self, door: Door, method: str, *arguments: Any, **named: Any) -> tuple[int, str]:
        """Status and text of the error that the call must end with."""
        with pytest.raises(InferenceServerException) as raised:
            await self(method, *arguments, **named)
        return door.status(raised.value), str(raised.value.message())


@asynccontextmanager
async def client_of(door: Door, server: ServerProcess) -> AsyncIterator[Client]:
    """A client, after which no region is registered."""
    client = Client(door.client(server.http if door.protocol == "http" else server.grpc))
    try:
        yield client
    finally:
        try:
            await client("unregister_system_shared_memory")
        finally:
            await client("close")


@contextmanager
def region(size: int) -> Iterator[tuple[Any, str]]:
    """The client library's handle of a new object, and its key."""
    key = f"/ortolan_test_{uuid.uuid4().hex}"
    handle = client_memory.create_shared_memory_region("region", key, size, create_only=True)
    try:
        yield handle, key
    finally:
        client_memory.destroy_shared_memory_region(handle)


def regions_of(status: Any) -> dict[str, tuple[str, int, int]]:
    """Key, offset and size of each region, by its name."""
    if isinstance(status, list):
        return {told["name"]: (told["key"], told["offset"], told["byte_size"]) for told in status}
    found = status.regions
    assert all(name == told.name for name, told in found.items())
    return {
        name: (told.key, told.offset, told.byte_size) if hasattr(told, "key") else ("", 0, told.byte_size)
        for name, told in found.items()
    }
