"""A load of everything: all doors, tensors of bytes and of megabytes, requests that are wrong, clients that go."""

import http.client
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
import large_tensors
import numpy as np
from callers import LONGEST_S, ask, grpc_request, rest_body
from server_process import ServerProcess

CLIENTS = 4
_ROWS = (1, 1, 1, 10, 300, 6000)
_INFER = "/v2/models/sizes/infer"


@dataclass
class MixedLoad:
    """To be sent to a server with ``large_tensors.save_models`` and ``sizes``, y = x in up to 8192 rows of 4."""

    server: ServerProcess
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def run(self, requests: int) -> None:
        """Send so many, from a few clients at once; each run the same ones."""
        threads = [
            threading.Thread(target=self._client, args=(random.Random(seed), requests // CLIENTS))
            for seed in range(CLIENTS)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _client(self, chance: random.Random, requests: int) -> None:
        for _ in range(requests):
            kind, act = chance.choice(ACTS)
            try:
                act(self.server, chance)
                self.counts[kind] += 1
            except Exception as error:
                self.faults.append(f"{kind}: {error!r}")


def _rows(chance: random.Random) -> np.ndarray:
    return np.ones((chance.choice(_ROWS), 4), np.float32)


def _json(server: ServerProcess, chance: random.Random) -> None:
    rows = _rows(chance)
    reply = ask(server, "POST", _INFER, rest_body(rows))
    assert reply.array.shape == rows.shape


def _kept_open(server: ServerProcess, chance: random.Random) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=LONGEST_S)
    try:
        for _ in range(10):
            connection.request("POST", _INFER, rest_body(_rows(chance)))
            response = connection.getresponse()
            response.read()
            assert response.status == 200
    finally:
        connection.close()


def _wrong(server: ServerProcess, chance: random.Random) -> None:
    shape = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [0] * 5}]}
    paths_and_bodies: Sequence[tuple[str, bytes]] = (
        (_INFER, b"{" * 1000),
        (_INFER, json.dumps(shape).encode()),
        ("/v2/models/nobody/infer", rest_body(_rows(chance))),
        ("/nowhere", b""),
    )
    path, body = chance.choice(paths_and_bodies)
    assert ask(server, "POST", path, body).status in (400, 404)


def _gone_midway(server: ServerProcess, chance: random.Random) -> None:
    """A client that goes with half of its body sent, small or large."""
    size = chance.choice((100, 3_000_000))
    head = f"POST {_INFER} HTTP/1.1\r\nHost: here\r\nContent-Length: {2 * size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), LONGEST_S) as connection:
        connection.sendall(head.encode() + bytes(size))


def _large(server: ServerProcess, chance: random.Random) -> None:
    large_tensors.DOORS[chance.choice([*large_tensors.DOORS])](server, chance.choice([*large_tensors.MODELS]))


def _grpc(server: ServerProcess, chance: random.Random) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(10):
            assert call(grpc_request("sizes", _rows(chance)), timeout=LONGEST_S)


def _grpc_wrong(server: ServerProcess, chance: random.Random) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for request in (grpc_request("nobody", _rows(chance)), b"\xff" * 5000):
            code = call.future(request, timeout=LONGEST_S).exception().code()
            assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


def _grpc_cancelled(server: ServerProcess, chance: random.Random) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call.future(large_tensors.message(chance.choice(("takes", "both"))), timeout=LONGEST_S).cancel()


def _stream(server: ServerProcess, chance: random.Random) -> None:
    """Right and wrong requests on one stream, which goes on after each."""
    requests = [grpc_request(chance.choice(("sizes", "sizes", "nobody")), _rows(chance)) for _ in range(10)]
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        assert len(list(call(iter(requests), timeout=LONGEST_S))) == len(requests)


Act = Callable[[ServerProcess, random.Random], None]
ACTS: Sequence[tuple[str, Act]] = (
    ("JSON", _json),
    ("JSON, kept open", _kept_open),
    ("wrong over REST", _wrong),
    ("gone midway", _gone_midway),
    ("6 MB", _large),
    ("gRPC", _grpc),
    ("wrong over gRPC", _grpc_wrong),
    ("cancelled over gRPC", _grpc_cancelled),
    ("stream", _stream),
)
