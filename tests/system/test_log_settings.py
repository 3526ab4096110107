"""Log settings through tritonclient over HTTP and gRPC, and the lines that they let through."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import get
from server_process import ServerProcess, eventually, finished, running
from tritonclient.utils import InferenceServerException

PROTOCOLS = {"http": tritonclient.http, "grpc": tritonclient.grpc}
DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


class Client:
    """tritonclient for one protocol; settings come back as HTTP has them."""

    def __init__(self, protocol: str, server: ServerProcess) -> None:
        module = PROTOCOLS[protocol]
        self.http = protocol == "http"
        self._client = module.InferenceServerClient(server.http if self.http else server.grpc)

    def settings(self) -> dict[str, Any]:
        return self._as_over_http(self._client.get_log_settings())

    def update(self, settings: dict[str, Any]) -> dict[str, Any]:
        return self._as_over_http(self._client.update_log_settings(settings))

    def metadata(self, model: str) -> object:
        return self._client.get_model_metadata(model)

    def _as_over_http(self, found: Any) -> dict[str, Any]:
        if self.http:
            return dict(found)
        values = {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in found.settings.items()}
        return {name: values[name] for name in DEFAULTS if name in values}

    def close(self) -> None:
        self._client.close()


@dataclass(frozen=True)
class Logging:
    """A server that can be made to write a line of each level, and what it has written."""

    server: ServerProcess
    file: Path

    @property
    def text(self) -> str:
        return self.file.read_text()

    def lines_of(self, action: Callable[[], object], marker: str) -> str:
        """What is written from now until a line with ``marker``, which comes after those of ``action``."""
        before = len(self.text)
        action()
        eventually(lambda: marker in self.text[before:])
        return self.text[before:]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    onnx_models.save_version(root, "m", onnx_models.doubler())
    return root


@pytest.fixture(scope="module")
def logging(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logging]:
    log = tmp_path_factory.mktemp("log") / "log"
    # Without a file for them, each change of the trace settings brings a warning.
    with running(repository, "--trace-config=level=TIMESTAMPS", log=log) as server:
        yield Logging(server, log)


@pytest.fixture(params=PROTOCOLS)
def client(request: pytest.FixtureRequest, logging: Logging) -> Iterator[Client]:
    """A client of a server whose settings are at the end as they were at its start."""
    client = Client(request.param, logging.server)
    yield client
    client.update({name: value for name, value in DEFAULTS.items() if name != "log_file"})
    client.close()


def test_the_settings_are_tritons_defaults(client: Client) -> None:
    assert client.settings() == DEFAULTS


def test_only_what_is_given_changes_and_all_of_it_comes_back(client: Client) -> None:
    assert client.update({"log_info": False, "log_verbose_level": 2}) == DEFAULTS | {
        "log_info": False,
        "log_verbose_level": 2,
    }
    assert client.update({"log_format": "ISO8601", "log_info": None}) == client.settings()
    assert client.settings() == DEFAULTS | {"log_info": False, "log_verbose_level": 2, "log_format": "ISO8601"}


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        ({"log_file": "elsewhere.log"}, 501, "log file location can not be updated through network protocol"),
        ({"log_format": "xml"}, 400, "invalid argument for log_format, got: xml; there are default, ISO8601, json"),
        ({"log_warnings": True}, 400, "unknown log setting 'log_warnings'"),
        ({"log_verbose_level": 2**31}, 400, "expect int32 for 'log_verbose_level'"),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(
    client: Client, settings: dict[str, Any], status: int, said: str
) -> None:
    codes = {400: "StatusCode.INVALID_ARGUMENT", 501: "StatusCode.UNIMPLEMENTED"}
    with pytest.raises(InferenceServerException) as refused:
        client.update({"log_info": False, **settings})
    assert said in refused.value.message()
    assert refused.value.status() == (str(status) if client.http else codes[status])
    assert client.settings() == DEFAULTS


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 200, ""),
        (b'{"log_file": null}', 200, ""),
        (b"{", 400, "failed to parse"),
        (b'"text"', 400, "an object"),
        (b'{"log_info": "true"}', 400, "expect boolean for 'log_info', got 'true'"),
        (b'{"log_verbose_level": "1"}', 400, "expect int32 for 'log_verbose_level'"),
        (b'{"log_format": 1}', 400, "expect string for 'log_format'"),
    ],
)
def test_bodies_that_tritonclient_does_not_send(logging: Logging, body: bytes, status: int, said: str) -> None:
    found, answer = post(logging.server, body)
    assert found == status
    assert said in answer.get("error", "")
    if status == 200:
        assert answer == get(logging.server, "/v2/logging") == DEFAULTS


def post(server: ServerProcess, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://{server.http}/v2/logging", body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


# -- the lines ---------------------------------------------------------------------------------------------------------


def trace(server: ServerProcess, rate: str) -> None:
    """Change a trace setting: an info line, and a warning where tracing is on, for it has no file."""
    body = json.dumps({"trace_rate": [rate]}).encode()
    with urllib.request.urlopen(f"http://{server.http}/v2/trace/setting", body, timeout=10) as response:
        assert response.status == 200


def test_info_lines_and_warnings_come_and_go_at_once(logging: Logging, client: Client) -> None:
    def both() -> None:
        trace(logging.server, "7")
        client.update({"log_info": True, "log_warning": True, "log_verbose_level": 0})
        client.update({"log_verbose_level": 1})
        client.update({"log_verbose_level": 0})

    end = "log_verbose_level=0"
    shown = logging.lines_of(both, end)
    assert " INFO ortolan.core.tracing: trace settings of all models changed" in shown
    assert " WARNING ortolan.core.tracing: nothing is traced" in shown
    client.update({"log_info": False})
    shown = logging.lines_of(both, end)
    assert "trace settings of all models changed" not in shown
    assert " WARNING ortolan.core.tracing: nothing is traced" in shown
    client.update({"log_warning": False})
    shown = logging.lines_of(both, end)
    assert "trace settings of all models changed" in shown
    assert "nothing is traced" not in shown


def test_who_switches_lines_off_leaves_a_last_one(logging: Logging, client: Client) -> None:
    assert "log_info=False" in logging.lines_of(lambda: client.update({"log_info": False}), "log settings changed")


def test_debugging_lines_come_with_the_verbose_level(logging: Logging, client: Client) -> None:
    def ask_and_mark() -> None:
        with pytest.raises(InferenceServerException):
            client.metadata("nope")
        client.update({"log_warning": False})
        client.update({"log_warning": True})

    end = "log_warning=True"
    assert " DEBUG " not in logging.lines_of(ask_and_mark, end)
    client.update({"log_verbose_level": 1, "log_info": True})
    line = r" DEBUG ortolan\.frontends\.\S+: a \w+ over (HTTP|gRPC) was refused: Request for unknown model: 'nope'"
    assert re.search(line, logging.lines_of(ask_and_mark, end))
    client.update({"log_verbose_level": 0})
    assert " DEBUG " not in logging.lines_of(ask_and_mark, end)


def test_the_form_changes_with_the_next_line(logging: Logging, client: Client) -> None:
    # A thread writes the lines, a moment later.
    logging.lines_of(lambda: client.update({"log_format": "json"}), "log_format='json')\n")
    (line,) = logging.lines_of(lambda: client.update({"log_verbose_level": 1}), "\n").splitlines()
    assert json.loads(line)["message"].startswith("log settings changed")
    logging.lines_of(lambda: client.update({"log_format": "default"}), "log_format='default')\"}\n")
    (line,) = logging.lines_of(lambda: client.update({"log_verbose_level": 0}), "\n").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO ortolan\.core\.log_settings: log settings", line)


# -- at the start ------------------------------------------------------------------------------------------------------


def test_a_log_file_is_appended_to_and_told(repository: Path, tmp_path: Path) -> None:
    file, errors = tmp_path / "o.log", tmp_path / "errors"
    file.write_text("before\n")
    with running(repository, f"--log-file={file}", "--log-format=ISO8601", log=errors) as server:
        found = get(server, "/v2/logging")
    assert (found["log_file"], found["log_format"]) == (str(file), "ISO8601")
    lines = file.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1].endswith("INFO ortolan.server: stopped")
    assert errors.read_text() == ""


def test_a_log_file_that_is_moved_away_is_begun_anew(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "o.log"
    with running(repository, f"--log-file={file}"):
        file.rename(tmp_path / "o.log.1")
    assert "stopped" in file.read_text()


def test_flags_switch_lines_off_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"nonsense")
    assert " ERROR " in finished("models", tmp_path).stderr
    assert " ERROR " not in finished("models", tmp_path, "--log-error=false").stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert " WARNING " in finished("models", empty).stderr
    assert finished("models", empty, "--log-warning", "off").stderr == ""


def test_info_lines_are_switched_off_by_a_flag(repository: Path, tmp_path: Path) -> None:
    with running(repository, "--log-info=false", log=tmp_path / "log") as server:
        assert get(server, "/v2/logging") == DEFAULTS | {"log_info": False}
    assert " INFO " not in (tmp_path / "log").read_text()
