"""``ortolan health`` as probes run it: a process, an exit code and one line."""

import os
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from certificates import Authority, Pair
from server_process import ServerProcess, finished, running

# A proxy that nobody runs: whoever asked it would hear nothing.
PROXIES = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "grpc_proxy": "http://127.0.0.1:1"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save_version(path, "doubler", onnx_models.doubler())
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository) as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.server()


@pytest.fixture(scope="module")
def guarded(repository: Path, authority: Authority, own: Pair) -> Iterator[ServerProcess]:
    """A server over TLS whose clients have to show a certificate."""
    flags = (f"--tls-certificate={own.certificate}", f"--tls-key={own.key}", f"--tls-client-ca={authority.file}")
    with running(repository, *flags) as server:
        yield server


def test_a_ready_server_is_ready_however_it_is_asked(server: ServerProcess) -> None:
    for arguments in ((server.http,), (f"http://{server.http}/", "--live"), (server.grpc, "--grpc")):
        asked = finished("health", *arguments, environment=PROXIES)
        assert (asked.returncode, asked.stderr) == (0, "")
        assert asked.stdout.count("\n") == 1
        assert asked.stdout.startswith("live: " if "--live" in arguments else "ready: ")


def test_the_server_of_this_environment_is_asked_where_no_url_is_given(server: ServerProcess) -> None:
    environment = {"ORTOLAN_HTTP_PORT": str(server.http_port), "ORTOLAN_GRPC_PORT": str(server.grpc_port)}
    assert finished("health", environment=environment).stdout == f"ready: {server.http} says HTTP 200\n"
    assert finished("health", "--grpc", environment=environment).stdout == f"ready: {server.grpc} says SERVING\n"
    without_http = environment | {"ORTOLAN_ALLOW_HTTP": "false"}
    assert finished("health", environment=without_http).stdout == f"ready: {server.grpc} says SERVING\n"
    platform = {"K_SERVICE": "models", "PORT": str(server.http_port)}
    assert finished("health", environment=platform).stdout == f"ready: {server.http} says HTTP 200\n"


def test_a_server_without_its_models_is_live_and_not_ready(tmp_path: Path) -> None:
    flags = ("--exit-on-error=false", "--model-control-mode=explicit", "--strict-readiness=true")
    onnx_models.save_version(tmp_path, "doubler", onnx_models.doubler())
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    with running(tmp_path, *flags, "--load-model=broken") as server:
        ready, live = finished("health", server.http), finished("health", server.http, "--live")
        over_grpc = finished("health", server.grpc, "--grpc")
    assert (ready.returncode, live.returncode, over_grpc.returncode) == (1, 0, 1)
    assert ready.stdout == f"not ready: {server.http} says HTTP 400\n"  # Triton's
    assert over_grpc.stdout == f"not ready: {server.grpc} says NOT_SERVING\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:1"], "not ready: nothing listens on 127.0.0.1:1\n"),
        (["127.0.0.1:1", "--live"], "not live: nothing listens on 127.0.0.1:1\n"),
        (["grpc://[::1]:1"], "not ready: "),
        (["nowhere.invalid", "--timeout-secs=60"], "not ready: nowhere.invalid:8000: "),
        (["a" * 70 + ".invalid"], "not ready: "),  # no such name can be encoded
    ],
)
def test_who_does_not_answer_is_not_ready(arguments: list[str], said: str) -> None:
    asked = finished("health", *arguments)
    assert (asked.returncode, asked.stderr) == (1, "")
    assert asked.stdout.startswith(said)


def test_a_port_of_another_kind_says_so(server: ServerProcess) -> None:
    for url, said in (
        (server.grpc, "does not speak HTTP/1.1"),
        (f"grpc://{server.http}", "does not speak gRPC"),
        (f"https://{server.http}", "no TLS there"),
        (f"grpcs://{server.grpc}", "no TLS there"),
        (server.metrics, "HTTP 404"),
    ):
        asked = finished("health", url)
        assert asked.returncode == 1
        assert said in asked.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timeout-secs=x"],
        ["--timeout-secs=0"],
        ["ftp://a"],
        ["grpc://a/b"],
        ["--reddy"],
        ["a", "b"],
        ["--ready", "--live"],
    ],
)
def test_a_wrong_command_line_is_neither_ready_nor_not(arguments: list[str]) -> None:
    asked = finished("health", *arguments)
    assert (asked.returncode, asked.stdout) == (2, "")


def test_the_own_server_with_a_port_that_nobody_knows_is_not_guessed() -> None:
    asked = finished("health", environment={"ORTOLAN_HTTP_PORT": "0"})
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "give the server's URL" in asked.stderr


def test_mutual_tls_is_spoken_with_a_certificate(guarded: ServerProcess, authority: Authority) -> None:
    client = authority.client("probe")
    shown = (f"--client-certificate={client.certificate}", f"--client-key={client.key}")
    for url in (f"https://{guarded.http}", f"grpcs://{guarded.grpc}"):
        # Nobody stands between a machine and itself, so its own certificate need not be known here.
        assert finished("health", url, *shown).returncode == 0
        assert finished("health", url, f"--tls-ca={authority.file}", *shown).returncode == 0
        assert finished("health", url).returncode == 1


def test_a_certificate_of_another_authority_is_refused_where_one_is_named(
    guarded: ServerProcess, authority: Authority, tmp_path: Path
) -> None:
    client, other = authority.client("probe"), Authority(tmp_path)
    shown = (f"--client-certificate={client.certificate}", f"--client-key={client.key}", f"--tls-ca={other.file}")
    asked = finished("health", f"https://{guarded.http}", *shown)
    assert asked.returncode == 1
    assert "certificate" in asked.stdout


def test_the_own_server_that_wants_certificates_is_asked_by_its_metrics(
    guarded: ServerProcess, own: Pair, authority: Authority
) -> None:
    environment = {
        "ORTOLAN_HTTP_PORT": str(guarded.http_port),
        "ORTOLAN_METRICS_PORT": str(guarded.metrics_port),
        "ORTOLAN_TLS_CERTIFICATE": str(own.certificate),
        "ORTOLAN_TLS_KEY": str(own.key),
        "ORTOLAN_TLS_CLIENT_CA": str(authority.file),
    }
    assert finished("health", environment=environment).stdout == f"ready: {guarded.metrics} says ortolan_ready 1\n"


def test_the_own_server_that_refuses_its_own_certificate_lives_and_is_not_known_to_be_ready(
    guarded: ServerProcess, own: Pair, authority: Authority
) -> None:
    environment = {
        "ORTOLAN_HTTP_PORT": str(guarded.http_port),
        "ORTOLAN_GRPC_PORT": str(guarded.grpc_port),
        "ORTOLAN_ALLOW_METRICS": "false",
        "ORTOLAN_TLS_CERTIFICATE": str(own.certificate),
        "ORTOLAN_TLS_KEY": str(own.key),
        "ORTOLAN_TLS_CLIENT_CA": str(authority.file),
    }
    for place, flags in ((guarded.http, ()), (guarded.grpc, ("--grpc",))):
        live = finished("health", "--live", *flags, environment=environment)
        assert (live.returncode, live.stdout) == (0, f"live: {place} wants another client certificate\n")
        ready = finished("health", *flags, environment=environment)
        assert ready.returncode == 1
        assert ready.stdout.startswith(f"not ready: {place} wants another client certificate")
        assert "--client-certificate" in ready.stdout
        assert "--allow-metrics" in ready.stdout
    without = finished("health", f"https://{guarded.http}", "--live")
    assert (without.returncode, without.stdout) == (0, f"live: {guarded.http} wants a client certificate\n")


def test_files_of_tls_that_are_not_there_are_named(guarded: ServerProcess) -> None:
    asked = finished("health", f"https://{guarded.http}", f"--tls-ca={os.path.join('nowhere', 'ca.pem')}")
    assert asked.returncode == 1
    assert "No such file" in asked.stdout
