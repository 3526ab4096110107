"""gRPC clients that know two servers, as docs/scaling.md tells: one server for all calls, or for each call one."""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
import tritonclient.grpc
from onnx_models import adder, save_version
from server_process import ServerProcess, running

CALLS = 20
ROUND_ROBIN = [("grpc.lb_policy_name", "round_robin")]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    repository = tmp_path_factory.mktemp("models")
    save_version(repository, "m", adder(1.0))
    with ExitStack() as stack:
        yield [stack.enter_context(running(repository)) for _ in range(2)]


def answered(servers: list[ServerProcess]) -> list[int]:
    """How many inferences each has answered."""
    counts = []
    for server in servers:
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            (statistics,) = client.get_inference_statistics("m", as_json=True)["model_stats"]
            counts.append(int(statistics.get("inference_count", 0)))
    return counts


def ask(addresses: str, channel_args: list[tuple[str, str]] | None) -> None:
    tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    with tritonclient.grpc.InferenceServerClient(addresses, channel_args=channel_args) as client:
        for _ in range(CALLS):
            client.infer("m", [tensor], client_timeout=30)


def test_with_round_robin_each_call_has_a_server_of_its_own(servers: list[ServerProcess]) -> None:
    before = answered(servers)
    ask(f"ipv4:{servers[0].grpc},{servers[1].grpc}", ROUND_ROBIN)
    shares = [now - then for now, then in zip(answered(servers), before, strict=True)]
    assert sum(shares) == CALLS
    # The first calls may come before the second connection stands.
    assert min(shares) >= CALLS // 4


def test_without_it_all_calls_go_to_one(servers: list[ServerProcess]) -> None:
    before = answered(servers)
    ask(f"ipv4:{servers[1].grpc},{servers[0].grpc}", None)
    assert sorted(now - then for now, then in zip(answered(servers), before, strict=True)) == [0, CALLS]
