"""Clients that a test can cancel and drop, REST over plain sockets and gRPC over plain calls; what a server tells."""

import asyncio
import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
from server_process import ServerProcess, eventually

from ortolan.protocol import protobuf_messages as messages

LONGEST_S = 30.0
_DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def array(self) -> np.ndarray:
        """The first output, from JSON."""
        output = self.json["outputs"][0]
        return np.array(output["data"]).reshape(output["shape"])

    @property
    def timing(self) -> dict[str, float]:
        return timing_of(self.headers["server-timing"])


def timing_of(text: str) -> dict[str, float]:
    """The numbers of a Server-Timing header: ``queue``, ``compute`` and ``encode`` in milliseconds, ``batch`` rows."""
    found = re.findall(r'(\w+);(?:dur=([\d.]+)|desc="(\d+)")', text)
    return {name: float(duration or description) for name, duration, description in found}


def rest_body(array: np.ndarray, name: str = "x", parameters: Mapping[str, Any] | None = None) -> bytes:
    tensor = {"name": name, "shape": array.shape, "datatype": _DATATYPES[array.dtype], "data": array.ravel().tolist()}
    return json.dumps({"inputs": [tensor], "parameters": dict(parameters or {})}).encode()


def ask(
    server: ServerProcess, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """One request on a connection of its own; ``body`` is bytes, or what becomes JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=LONGEST_S)
    try:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, sent, dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


async def rest(
    server: ServerProcess,
    model: str,
    array: np.ndarray,
    name: str = "x",
    parameters: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One inference on a connection of its own. To cancel this is to close the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    try:
        body = rest_body(array, name, parameters)
        lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(LONGEST_S):
            return await _reply(reader)
    finally:
        writer.close()


async def _reply(reader: asyncio.StreamReader) -> Reply:
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
    return Reply(int(status.split()[1]), headers, await reader.readexactly(int(headers["content-length"])))


def grpc_request(model: str, array: np.ndarray, name: str = "x", **parameters: int) -> bytes:
    request = messages.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype=_DATATYPES[array.dtype], shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    for key, value in parameters.items():
        request.parameters[key].int64_param = value
    return bytes(request.SerializeToString())


def grpc_call(
    channel: grpc.aio.Channel, model: str, array: np.ndarray, deadline_s: float = LONGEST_S, **parameters: int
) -> Any:
    """A call that is under way: await it for the response's bytes, or cancel it."""
    method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    return method(grpc_request(model, array, **parameters), timeout=deadline_s)


def grpc_array(response: bytes) -> np.ndarray:
    """The first output of a response, which is FP32."""
    message = messages.ModelInferResponse.FromString(response)
    return np.frombuffer(message.raw_output_contents[0], np.float32).reshape(message.outputs[0].shape)


def row(value: float = 0, rows: int = 1) -> np.ndarray:
    """``rows`` rows of four times ``value``."""
    return np.full((rows, 4), value, np.float32)


# -- what the server tells ---------------------------------------------------------------------------------------------


def get(server: ServerProcess, path: str) -> Any:
    with urlopen(f"http://{server.http}{path}", timeout=LONGEST_S) as response:
        return json.load(response)


def statistics(server: ServerProcess, model: str) -> Any:
    return get(server, f"/v2/models/{model}/stats")["model_stats"][0]


def batches(server: ServerProcess, model: str) -> dict[int, int]:
    """For each number of rows, how many executions had it."""
    found = statistics(server, model)["batch_stats"]
    return {batch["batch_size"]: batch["compute_infer"]["count"] for batch in found}


def metric(server: ServerProcess, name: str, model: str, **labels: str) -> int:
    with urlopen(f"http://{server.metrics}/metrics", timeout=LONGEST_S) as response:
        lines = response.read().decode().splitlines()
    wanted = [f'model="{model}"', *(f'{key}="{value}"' for key, value in labels.items())]
    found = [line for line in lines if line.startswith(name + "{") and all(each in line for each in wanted)]
    return sum(int(float(line.rpartition(" ")[2])) for line in found)


def waiting(server: ServerProcess, model: str) -> int:
    """How many requests are in the model's queue."""
    return metric(server, "nv_inference_pending_request_count", model)


def failures(server: ServerProcess, model: str) -> dict[str, int]:
    """How many requests failed, for each reason that there was."""
    reasons = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    counts = {reason: metric(server, "nv_inference_request_failure", model, reason=reason) for reason in reasons}
    return {reason: count for reason, count in counts.items() if count}


async def until_waiting(server: ServerProcess, model: str, count: int) -> None:
    """Return once exactly ``count`` requests are in the model's queue."""
    await asyncio.to_thread(eventually, lambda: waiting(server, model) == count)
