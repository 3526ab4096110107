"""How long gRPC connections live, and which pings they bear, as the operator chose."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import onnx_models
from callers import grpc_array, grpc_call, row
from server_process import running

READY = grpc.ChannelConnectivity.READY
SOON_S = 20.0
# The client pings ten times a second, whatever the server thinks of it.
PINGING = [
    ("grpc.keepalive_time_ms", 100),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


async def doubled(channel: grpc.aio.Channel) -> bool:
    return grpc_array(await grpc_call(channel, "doubler", row(1))).tolist() == row(2).tolist()


@asynccontextmanager
async def connected(
    models: Path, *flags: str, options: list[tuple[str, int]] | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel, whose connection stands, to a server with ``flags``."""
    with running(models, *flags) as server:
        async with grpc.aio.insecure_channel(server.grpc, options=options) as channel:
            assert await doubled(channel)
            assert channel.get_state() is READY
            yield channel


async def test_an_old_connection_is_asked_to_close_and_the_next_call_opens_another(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "doubler", onnx_models.doubler())
    aging = ("--grpc-max-connection-age=300", "--grpc-max-connection-age-grace=5000")
    async with connected(tmp_path, *aging) as aged, connected(tmp_path) as ageless:
        await asyncio.wait_for(aged.wait_for_state_change(READY), SOON_S)
        assert ageless.get_state() is READY
        assert await doubled(aged)


async def test_a_client_that_pings_too_often_is_sent_away_unless_it_may(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "doubler", onnx_models.doubler())
    lenient = ("--grpc-http2-min-recv-ping-interval-without-data=1", "--grpc-keepalive-permit-without-calls=true")
    async with (
        connected(tmp_path, *lenient, options=PINGING) as welcome,
        connected(tmp_path, options=PINGING) as strict,
    ):
        await asyncio.wait_for(strict.wait_for_state_change(READY), SOON_S)
        assert welcome.get_state() is READY
