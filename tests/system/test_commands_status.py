"""``ortolan status`` against real servers: ours, one that wants keys, and one that tells no more than Triton does."""

import http.server
import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx_models
import pytest
from callers import rest_body, row
from certificates import Authority
from server_process import ServerProcess, command, finished, running
from terminal import on_a_terminal

# Else a runner of tests says how wide the terminal is.
ENVIRONMENT = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save_version(path, "doubler", onnx_models.doubler())
    (path / "broken" / "1").mkdir(parents=True)
    (path / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, "--exit-on-error=false", "--strict-readiness=false") as server:
        yield server


def infer(server: ServerProcess, times: int) -> None:
    for _ in range(times):
        with urllib.request.urlopen(f"http://{server.http}/v2/models/doubler/infer", rest_body(row(1)), 30) as answer:
            answer.read()


def asked(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    done = finished("status", *arguments, environment=environment)
    return done.returncode, done.stdout, done.stderr


def test_without_an_address_it_is_the_server_of_this_machine(server: ServerProcess) -> None:
    environment = {"ORTOLAN_HTTP_PORT": str(server.http_port), "ORTOLAN_METRICS_PORT": str(server.metrics_port)}
    code, out, err = asked("--interval-secs=0", environment=environment)
    assert (code, err) == (0, "")
    assert "doubler" in out


def test_without_a_terminal_there_is_one_table(server: ServerProcess) -> None:
    infer(server, 3)
    code, out, err = asked(server.http, "--interval-secs=0")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert re.match(r"ortolan \S+ at \S+  ready  utilization \d+ %  memory \S+ MiB  ", lines[0])
    assert lines[2].split()[:4] == ["MODEL", "VERSION", "STATE", "REQ/S"]
    assert re.search(r"^broken +1? +UNAVAILABLE .*\S", out, re.MULTILINE)
    assert re.search(r"^doubler +1 +READY +– +[\d.]+ +[\d.]+ +[\d.]+ +1 +0 +\d+ % +\S+ \S?i?B +0$", out, re.MULTILINE)
    assert "\x1b" not in out


def test_json_has_the_same_for_machines(server: ServerProcess) -> None:
    infer(server, 2)
    code, out, _ = asked(server.http, "--json", "--interval-secs=0")
    told = json.loads(out)
    (doubler,) = (each for each in told["rows"] if each["model"] == "doubler")
    assert (code, told["is_ready"], doubler["state"]) == (0, True, "READY")
    assert doubler["requests"] >= 2
    assert 0 < doubler["p50_ms"] <= doubler["p99_ms"]
    assert doubler["memory_bytes"] > 0


def test_metrics_may_be_elsewhere(server: ServerProcess) -> None:
    code, out, _ = asked(server.http, "--json", "--interval-secs=0", f"--metrics-url=http://{server.metrics}/metrics")
    assert code == 0
    assert json.loads(out)["utilization"] is not None


def test_on_a_terminal_the_table_renews_itself_in_place(server: ServerProcess) -> None:
    line = command("status", server.http, "--interval-secs=0.05")
    with on_a_terminal(line, ENVIRONMENT) as terminal:
        terminal.until(lambda text: text.count("MODEL") >= 2)
        infer(server, 5)
        terminal.until(lambda text: re.search(r"doubler +1 +READY +[1-9]", text) is not None)
        terminal.press("\x03")
        terminal.to_the_end()
        assert terminal.process.returncode == 0
    written = terminal.written
    assert "Traceback" not in written
    # Up by as many lines as there are, and nothing below them is left.
    assert written.count("\x1b[5A\x1b[J") >= 2
    assert written.startswith("\x1b[?25l")
    assert written.endswith("\x1b[?25h")


def test_a_table_fits_into_a_small_terminal(server: ServerProcess) -> None:
    with on_a_terminal(command("status", server.http, "--interval-secs=0.05"), ENVIRONMENT, 40, 5) as terminal:
        text = terminal.until(lambda text: "more" in text)
        lines = [re.sub(r"\x1b\[[\d?]*\w", "", line) for line in text.replace("\r", "").split("\n")]
        assert max(map(len, lines)) < 40


def test_a_server_that_goes_is_noted_and_waited_for(repository: Path) -> None:
    with running(repository, "--exit-on-error=false") as server:
        line = command("status", server.http, "--interval-secs=0.05")
        with on_a_terminal(line, ENVIRONMENT) as terminal:
            terminal.until(lambda text: "doubler" in text)
            server.process.terminate()
            server.process.wait(30)
            terminal.until(lambda text: f"NO ANSWER: nothing listens on {server.http}" in text)
            terminal.press("\x03")
            terminal.to_the_end()
            assert terminal.process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["127.0.0.1:1"], 1, "ortolan: nothing listens on 127.0.0.1:1\n"),
        (["ftp://a"], 2, "expected HOST"),
        (["--interval-secs=x"], 2, "--interval-secs: expected seconds"),
        (["--api-key-file=/nowhere/key"], 2, "--api-key-file: cannot read '/nowhere/key'"),
    ],
)
def test_who_cannot_be_asked_is_named(arguments: list[str], code: int, said: str) -> None:
    found, out, err = asked(*arguments)
    assert (found, out) == (code, "")
    assert said in err


def test_a_port_that_is_not_http_says_so(server: ServerProcess) -> None:
    code, _, err = asked(server.grpc)
    assert (code, err.count("\n")) == (1, 1)
    assert "Traceback" not in err


def test_a_guarded_server_is_asked_with_a_key_over_tls(repository: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.server()
    keys = tmp_path / "keys"
    key = finished("api-key", "watcher", "--scopes=read", "--file", keys).stdout.strip()
    flags = (f"--tls-certificate={own.certificate}", f"--tls-key={own.key}", f"--api-keys-file={keys}")
    (tmp_path / "key").write_text(key + "\n")
    with running(repository, "--exit-on-error=false", *flags) as server:
        url = (f"https://{server.http}", f"--tls-ca={authority.file}", "--interval-secs=0")
        assert "doubler" in asked(*url, f"--api-key-file={tmp_path / 'key'}")[1]
        assert "doubler" in asked(*url, environment={"ORTOLAN_API_KEY": key})[1]
        code, _, err = asked(*url)
    assert code == 1
    assert "wants a key" in err
    assert "ORTOLAN_API_KEY" in err
    assert key not in err


# -- what Triton tells -------------------------------------------------------------------------------------------------

ANSWERS: Mapping[str, object] = {
    "/v2": {"name": "triton", "version": "2.60.0"},
    "/v2/health/ready": None,
    "/v2/repository/index": [{"name": "resnet", "version": "1", "state": "READY", "reason": ""}, {"name": "cold"}],
    "/v2/models/stats": {
        "model_stats": [
            {
                "name": "resnet",
                "version": "1",
                "inference_count": 400,
                "execution_count": 100,
                "inference_stats": {"success": {"count": 200, "ns": 10**9}, "fail": {"count": 3, "ns": 5}},
            }
        ]
    },
}
METRICS = 'nv_inference_pending_request_count{model="resnet",version="1"} 4\nnv_gpu_utilization{gpu_uuid="x"} 0.5\n'


class Triton(http.server.BaseHTTPRequestHandler):
    """Its endpoints, on one port; its metrics are on another one."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b""
        if self.path in ANSWERS:
            body = json.dumps(ANSWERS[self.path]).encode() if ANSWERS[self.path] is not None else b""
        self.send_response(200 if self.path in ANSWERS else 404)
        self._send(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def _send(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class TritonsMetrics(Triton):
    def do_GET(self) -> None:
        self.send_response(200)
        self._send(METRICS.encode())


@contextmanager
def served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        # A connection that a client keeps holds nobody up.
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join(10)


def test_a_server_that_tells_what_triton_does_is_shown_as_far_as_that_goes() -> None:
    with served(Triton) as http_place, served(TritonsMetrics) as metrics_place:
        code, out, err = asked(http_place, "--json", "--interval-secs=0", f"--metrics-url={metrics_place}")
    told = json.loads(out)
    resnet, cold = told["rows"]
    assert (code, err, told["server"], told["is_ready"]) == (0, "", "triton 2.60.0", True)
    assert (resnet["mean_ms"], resnet["rows_per_batch"], resnet["queue"], resnet["failures"]) == (5.0, 4.0, 4, 3)
    assert (resnet["p50_ms"], resnet["utilization"], told["utilization"]) == (None, None, None)
    assert (cold["model"], cold["version"], cold["requests"]) == ("cold", "", 0)


def test_what_is_no_model_server_is_said_to_be_none() -> None:
    class Other(Triton):
        def do_GET(self) -> None:
            self.send_response(200)
            self._send(b"<html>")

    with served(Other) as place:
        code, _, err = asked(place)
    assert code == 1
    assert "does not speak Triton's protocol" in err
