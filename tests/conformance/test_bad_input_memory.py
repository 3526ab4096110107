"""Bad input, again and again: nothing of it stays in memory (promise 20)."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from conformance.bad_http_payloads import CASES, INFER, asking
from conformance.served import Served
from conformance.test_bad_input_grpc import REFUSED
from conformance.wire import Grpc, Http
from reload_traffic import descriptors, resident_mib
from server_process import ServerProcess, eventually

ROUNDS = 40
MOST_MIB = 32
# Bombs and bodies of a megabyte take a while each; they are as many rows as others, but not as often.
HEAVY_BYTES = 100_000
HEAVY_EACH = 4

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what is resident")


def is_heavy(body: bytes) -> bool:
    return len(body) > HEAVY_BYTES or body[:2] in (b"\x1f\x8b", b"x\x9c")


def over_http(server: ServerProcess, number: int) -> None:
    """Every row once; the heavy ones in some of the rounds."""
    with closing(Http(server)) as http:
        for case in CASES:
            if not is_heavy(case.body) or number % (ROUNDS // HEAVY_EACH) == 0:
                assert http.post(case.path, case.body, case.headers).status == case.status, case
        assert http.post(INFER, asking()).status == 200


def over_grpc(server: ServerProcess, number: int) -> None:
    with closing(Grpc(server)) as channel:
        call = channel.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        rows = [data for _, _, data, _ in REFUSED if not is_heavy(data) or number % (ROUNDS // HEAVY_EACH) == 0]
        for answer in [call.future(data, timeout=30) for data in rows]:
            assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("all_rows", [over_http, over_grpc])
def test_bad_input_leaves_nothing_in_memory(bad_input: Served, all_rows: Callable[[ServerProcess, int], None]) -> None:
    server = bad_input.server
    all_rows(server, 0)
    before = resident_mib(server.process.pid), descriptors(server.process.pid)
    for number in range(ROUNDS):
        all_rows(server, number)
    eventually(lambda: descriptors(server.process.pid) <= before[1])
    assert resident_mib(server.process.pid) < before[0] + MOST_MIB
