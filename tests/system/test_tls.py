"""TLS of the server as it is started: its clients, what it tells people, and how it ends."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from certificates import Authority, Pair
from server_process import ServerProcess, eventually, finished, running

SOON_S = 20.0
ROW = np.array([[1, 2, 3, 4]], np.float32)
WIDE = 8_000_000
LARGE = np.random.default_rng(0).random((1, 2_000_000), np.float32)
JSON_ROW = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})
READY = "/inference.GRPCInferenceService/ServerReady"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return Authority(directory)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.server()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save_version(path, "double", onnx_models.doubler())
    onnx_models.save_version(path, "large", onnx_models.identity(shape=("rows", "columns")))
    return path


@pytest.fixture(scope="module")
def server(repository: Path, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Plain models over TLS, without certificates of clients. Its log has nothing to complain about."""
    log = tmp_path_factory.mktemp("log") / "log"
    with running(repository, *flags(pair), "--log-verbose=1", log=log) as started:
        yield started
    lines = [line for line in log.read_text().splitlines() if "sent what is no HTTP" not in line]
    assert not [line for line in lines if re.search(r" (WARNING|ERROR) |Traceback", line)]


def flags(pair: Pair, *more: str) -> tuple[str, ...]:
    return f"--tls-certificate={pair.certificate}", f"--tls-key={pair.key}", *more


def context(authority: Authority, own: Pair | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.file)
    if own is not None:
        made.load_cert_chain(own.certificate, own.key)
    return made


def get(server: ServerProcess, path: str, used: ssl.SSLContext) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", server.http_port, timeout=SOON_S, context=used)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def channel(server: ServerProcess, authority: Authority, own: Pair | None = None) -> grpc.Channel:
    keys = (own.key_pem, own.pem) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.pem, *keys)
    return grpc.secure_channel(server.grpc, credentials, [("grpc.use_local_subchannel_pool", 1)])


def grpc_code(server: ServerProcess, authority: Authority, own: Pair | None = None) -> grpc.StatusCode:
    with channel(server, authority, own) as opened:
        call = opened.unary_unary(READY).future(b"", timeout=SOON_S)
        return call.code()


def is_let_in(server: ServerProcess, used: ssl.SSLContext) -> bool:
    try:
        return get(server, "/v2/health/ready", used)[0] == 200
    except (ssl.SSLError, ConnectionError):
        return False


def inputs(module: Any, array: np.ndarray) -> list[Any]:
    tensor = module.InferInput("x", array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return [tensor]


def test_the_summary_names_addresses_of_tls(server: ServerProcess, pair: Pair) -> None:
    assert server.process.stdout is not None
    example = "".join(server.process.stdout.readline() for _ in range(4))
    assert re.search(r"HTTP +127\.0\.0\.1:\d+  \(documentation: https://127\.0\.0\.1:\d+/docs\)", server.summary)
    assert re.search(r"gRPC +127\.0\.0\.1:\d+  \(TLS\)", server.summary)
    assert re.search(rf"  curl -s 'https://127\.0\.0\.1:.*' --cacert {re.escape(str(pair.certificate))}\n", example)


def test_tritonclients_infer_over_tls(server: ServerProcess, authority: Authority) -> None:
    """Small requests take the short way from the second on; large ones are received into their arrays."""
    rest = tritonclient.http.InferenceServerClient(
        server.http, ssl=True, ssl_context_factory=lambda: context(authority)
    )
    root = str(authority.file)
    with rest, tritonclient.grpc.InferenceServerClient(server.grpc, ssl=True, root_certificates=root) as rpc:
        for module, client in ((tritonclient.http, rest), (tritonclient.grpc, rpc)):
            for model, array, factor in (*[("double", ROW, 2)] * 4, *[("large", LARGE, 1)] * 2, ("double", ROW, 2)):
                answer = client.infer(model, inputs(module, array))
                assert np.array_equal(answer.as_numpy("y"), array * factor)


def test_a_connection_is_kept_for_large_and_refused_requests(server: ServerProcess, authority: Authority) -> None:
    kept = http.client.HTTPSConnection("127.0.0.1", server.http_port, timeout=SOON_S, context=context(authority))
    kept.connect()
    first = kept.sock
    values = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 400_000], "data": [1.5] * 400_000}]})
    for model, body, status in (("double", JSON_ROW, 200), ("double", "{", 400), ("large", values, 200)) * 2:
        kept.request("POST", f"/v2/models/{model}/infer", body)
        response = kept.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
        assert kept.sock is first
    kept.close()


def test_a_body_that_is_refused_is_answered_while_it_is_sent(server: ServerProcess, authority: Authority) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.http_port), SOON_S) as plain,
        context(authority).wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"POST /v2/models/double/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        tls.sendall(b"no chunk\r\n")
        # The rest of what the server is not to read any more.
        tls.sendall(bytes(200_000))
        answer = b""
        while data := tls.recv(65_536):
            answer += data
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_does_not_read_is_closed(repository: Path, authority: Authority, pair: Pair) -> None:
    """As in the clear: what waits for it is counted below TLS."""
    head = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, WIDE], "parameters": {"binary_data_size": 4 * WIDE}}]
    }
    described = json.dumps(head | {"parameters": {"binary_data_output": True}}).encode()
    lines = f"Inference-Header-Content-Length: {len(described)}\r\nContent-Length: {len(described) + 4 * WIDE}"
    with running(repository, *flags(pair), "--http-write-timeout-secs=1") as started:
        sockets = partial(open_sockets, started)
        before = sockets()
        with (
            socket.create_connection(("127.0.0.1", started.http_port), SOON_S) as plain,
            context(authority).wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(f"POST /v2/models/large/infer HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n".encode())
            tls.sendall(described)
            assert sockets() == before + 1
            tls.sendall(bytes(4 * WIDE))
            eventually(lambda: sockets() == before)


def open_sockets(server: ServerProcess) -> int:
    directory = Path("/proc", str(server.process.pid), "fd")
    count = 0
    for entry in directory.iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(entry).startswith("socket:")
    return count


def test_each_port_speaks_its_own_protocol(server: ServerProcess, authority: Authority) -> None:
    for port, protocol in ((server.http_port, "http/1.1"), (server.grpc_port, "h2")):
        used = context(authority)
        used.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", port), SOON_S) as plain,
            used.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            assert (tls.selected_alpn_protocol(), tls.version()) == (protocol, "TLSv1.3")


def test_requests_in_the_clear_are_refused_and_metrics_are_in_the_clear(server: ServerProcess) -> None:
    for port, status in ((server.http_port, 400), (server.metrics_port, 200)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON_S)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == status
        response.read()
        connection.close()
    with grpc.insecure_channel(server.grpc) as opened:
        call = opened.unary_unary(READY).future(b"", timeout=SOON_S)
        assert call.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
def test_clients_show_certificates(
    repository: Path, directory: Path, authority: Authority, pair: Pair, transport: str
) -> None:
    ours, theirs = authority.client(), Authority(directory, "other").client("stranger")
    given = flags(pair, f"--tls-client-ca={authority.file}", f"--grpc-transport={transport}")
    with running(repository, *given) as started:
        let_in = [is_let_in(started, context(authority, own)) for own in (ours, theirs, None)]
        assert let_in == [True, False, False]
        codes = [grpc_code(started, authority, own) for own in (ours, theirs, None)]
        assert codes == [grpc.StatusCode.OK, *[grpc.StatusCode.UNAVAILABLE] * 2]


def test_one_port_speaks_tls_to_all(repository: Path, directory: Path, authority: Authority, pair: Pair) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    ours, theirs = authority.client(), Authority(directory, "other").client("stranger")
    given = flags(pair, f"--tls-client-ca={authority.file}", "--tls-client-certificates=optional")
    with running(repository, f"--http-port={port}", f"--grpc-port={port}", *given) as started:
        for own, let_in in ((ours, True), (None, True), (theirs, False)):
            assert is_let_in(started, context(authority, own)) is let_in
            assert (grpc_code(started, authority, own) is grpc.StatusCode.OK) is let_in
        for http2 in (False, True):
            with httpx.Client(verify=context(authority, ours), http2=http2, http1=not http2, timeout=SOON_S) as client:
                answer = client.post(f"https://127.0.0.1:{port}/v2/models/double/infer", content=JSON_ROW)
                assert answer.status_code == 200, answer.text
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                assert answer.json()["outputs"][0]["data"] == [2, 4, 6, 8]


def test_flags_of_triton_are_for_grpc_alone(repository: Path, authority: Authority, pair: Pair) -> None:
    given = ("--grpc-use-ssl=true", f"--grpc-server-cert={pair.certificate}", f"--grpc-server-key={pair.key}")
    with running(repository, *given) as started:
        assert grpc_code(started, authority) is grpc.StatusCode.OK
        connection = http.client.HTTPConnection("127.0.0.1", started.http_port, timeout=SOON_S)
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().status == 200
        connection.close()


def test_processes_follow_the_files_too(repository: Path, tmp_path: Path) -> None:
    old, new = Authority(tmp_path), Authority(tmp_path, "new")
    pair = old.server("first")
    with running(repository, *flags(pair), "--processes=2") as started:
        assert is_let_in(started, context(old))
        pair.replace_by(new.server("second"))
        # Each connection may meet either.
        eventually(lambda: all(is_let_in(started, context(new)) for _ in range(10)))
        eventually(lambda: grpc_code(started, new) is grpc.StatusCode.OK)


def test_the_server_ends_though_clients_stay(repository: Path, authority: Authority, pair: Pair) -> None:
    """Of those who stay one idles, one calls, one shakes hands, and none takes the farewell."""
    with running(repository, *flags(pair)) as started:
        idle = http.client.HTTPSConnection("127.0.0.1", started.http_port, timeout=SOON_S, context=context(authority))
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
        with (
            socket.create_connection(("127.0.0.1", started.http_port), SOON_S) as handshaking,
            socket.create_connection(("127.0.0.1", started.grpc_port), SOON_S) as silent,
            channel(started, authority) as opened,
        ):
            handshaking.sendall(b"\x16\x03\x01")
            silent.sendall(b"\x16\x03\x01")
            opened.unary_unary(READY)(b"", timeout=SOON_S)
            started.process.send_signal(signal.SIGTERM)
            assert started.process.wait(25) == 0
        idle.close()


WRONG: Mapping[str, tuple[str, str]] = {
    "expired": ("expired.pem", "--tls-certificate: '.*' expired on 20"),
    "another's": ("other.pem", "--tls-key: the key in"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_server_with_wrong_files_does_not_start(repository: Path, tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    pair, expired, _ = authority.server(), authority.server("expired", -10, -1), authority.server("other")
    file, said = WRONG[name]
    key = expired.key if name == "expired" else pair.key
    ended = finished(
        "serve", repository, "--http-port=0", "--grpc-port=0", "--metrics-port=0", "--compiled-cache-directory=off",
        f"--tls-certificate={tmp_path / file}", f"--tls-key={key}",
    )  # fmt: skip
    assert ended.returncode == 2
    assert re.search(said, ended.stderr)
    assert "Traceback" not in ended.stderr
