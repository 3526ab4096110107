"""A client with fifty requests under way, run as a process to be killed: ``crashing_client.py HTTP_PORT GRPC_PORT``.

Of each kind there are ten: bodies that are half sent, requests that run or wait, answers that are not read, gRPC calls,
and gRPC streams. It says ``under way`` when all are.
"""

import asyncio
import sys

import grpc
from callers import LONGEST_S, grpc_request, rest_body, row

EACH = 10
_LONG = row(1e9)
_SERVICE = "/inference.GRPCInferenceService"
_INFER = "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: here\r\nContent-Length: {size}\r\n\r\n"


async def _send(port: int, model: str, body: bytes, size: int) -> object:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(_INFER.format(model=model, size=size).encode() + body)
    await writer.drain()
    return reader, writer


async def main(http_port: int, grpc_port: int) -> None:
    async with asyncio.timeout(LONGEST_S):
        await _begin(http_port, grpc_port)


async def _begin(http_port: int, grpc_port: int) -> None:
    long = rest_body(_LONG)
    half = [await _send(http_port, "slow", long[:20], len(long)) for _ in range(EACH)]
    whole = [await _send(http_port, "slow", long, len(long)) for _ in range(EACH)]
    wide = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}'
    unread = [await _send(http_port, "wide", wide, len(wide)) for _ in range(EACH)]
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
    message = grpc_request("slow", _LONG)
    calls = [channel.unary_unary(f"{_SERVICE}/ModelInfer")(message) for _ in range(EACH)]
    streams = [channel.stream_stream(f"{_SERVICE}/ModelStreamInfer")() for _ in range(EACH)]
    for stream in streams:
        await stream.write(message)
    sys.stdout.write("under way\n")
    sys.stdout.flush()
    await asyncio.gather(*calls)
    del half, whole, unread


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
