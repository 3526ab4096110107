"""Trace settings, and the traces that they bring, through tritonclient over HTTP and gRPC."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import get
from server_process import ServerProcess, eventually, finished, running
from tritonclient.utils import InferenceServerException

PROTOCOLS = {"http": tritonclient.http, "grpc": tritonclient.grpc}
ALL_EVENTS = ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"]
ALL_EVENTS += ["COMPUTE_END", "INFER_RESPONSE_COMPLETE", "REQUEST_END"]
FRONTEND_EVENTS = {
    "http": (["HTTP_RECV_START", "HTTP_RECV_END"], ["HTTP_SEND_START", "HTTP_SEND_END"]),
    "grpc": (["GRPC_WAITREAD_START", "GRPC_WAITREAD_END"], ["GRPC_SEND_START", "GRPC_SEND_END"]),
}

Settings = dict[str, Any]


class Client:
    """tritonclient for one protocol; settings come back as HTTP has them."""

    def __init__(self, protocol: str, server: ServerProcess) -> None:
        self._module = PROTOCOLS[protocol]
        self._client = self._module.InferenceServerClient(server.http if protocol == "http" else server.grpc)

    def settings(self, model: str = "") -> Settings:
        return _as_over_http(self._client.get_trace_settings(model))

    def update(self, settings: Settings, model: str = "") -> Settings:
        return _as_over_http(self._client.update_trace_settings(model, settings))

    def infer(self, model: str = "m", **options: Any) -> None:
        tensor = self._module.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.arange(4, dtype=np.float32).reshape(1, 4))
        self._client.infer(model, [tensor], **options)

    def close(self) -> None:
        self._client.close()


def _as_over_http(found: Any) -> Settings:
    if isinstance(found, dict):
        return found
    texts = {name: list(setting.value) for name, setting in found.settings.items()}
    return {name: value if name == "trace_level" else value[0] for name, value in texts.items()}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("m", "n"):
        onnx_models.save_version(root, name, onnx_models.doubler(), 3)
    return root


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One that traces each request."""
    file = tmp_path_factory.mktemp("traces") / "t.json"
    with running(repository, *config(file, "level=TIMESTAMPS", "rate=1")) as server:
        yield server


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(protocol: str, server: ServerProcess) -> Iterator[Client]:
    """A client of a server whose settings are at the end as they were at its start."""
    client = Client(protocol, server)
    yield client
    for model in ("m", ""):
        client.update(dict.fromkeys(["trace_level", "trace_rate", "trace_count", "log_frequency"]), model)
    client.close()


def config(file: Path, *settings: str) -> list[str]:
    return [f"--trace-config={setting}" for setting in (f"triton,file={file}", *settings)]


def post(server: ServerProcess, path: str, body: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://{server.http}{path}", body.encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


# -- settings ----------------------------------------------------------------------------------------------------------


def initial(client: Client, **others: Any) -> Settings:
    """The settings as the operator gave them, or with ``others``. How many traces there will be has no end."""
    found = client.settings()
    assert found["trace_file"].endswith("t.json")
    settings = {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": "1",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": found["trace_file"],
        "trace_mode": "triton",
    }
    return settings | others


def test_a_model_has_the_settings_of_all_until_it_has_its_own(client: Client) -> None:
    assert client.settings() == client.settings("m") == initial(client)
    assert client.update({"trace_rate": "12", "log_frequency": "34"}, "m") == initial(
        client, trace_rate="12", log_frequency="34"
    )
    changes = {"trace_rate": "56", "trace_count": "78", "trace_level": ["OFF"]}
    assert client.update(changes) == initial(client, **changes)
    own = {"trace_rate": "12", "log_frequency": "34", "trace_count": "78", "trace_level": ["OFF"]}
    assert client.settings("m") == initial(client, **own)
    assert client.settings("n") == client.settings()


def test_none_gives_a_setting_back_to_what_is_above_it(client: Client) -> None:
    client.update({"trace_rate": "12", "log_frequency": "34"}, "m")
    client.update({"trace_rate": "56", "trace_count": "78", "trace_level": ["OFF"]})
    assert client.update({"trace_rate": None, "trace_count": None}) == initial(client, trace_level=["OFF"])
    assert client.settings("m") == initial(client, trace_level=["OFF"], trace_rate="12", log_frequency="34")
    cleared = client.update({"trace_rate": None, "trace_level": None}, "m")
    assert cleared == initial(client, trace_level=["OFF"], log_frequency="34")


def test_several_levels_come_in_one_order(client: Client) -> None:
    assert client.update({"trace_level": ["TENSORS", "TIMESTAMPS"]})["trace_level"] == ["TIMESTAMPS", "TENSORS"]


def test_the_count_that_is_told_goes_down(client: Client) -> None:
    client.update({"trace_count": "2"}, "m")
    left = []
    for _ in range(3):
        client.infer()
        left.append(client.settings("m")["trace_count"])
    assert left == ["1", "0", "0"]


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        ({"trace_file": "x.json"}, 501, "trace file location can not be updated through network protocol"),
        ({"trace_mode": "opentelemetry"}, 501, "trace mode can not be updated through network protocol"),
        ({"trace_rate": "often"}, 400, "Unable to parse 'trace_rate', got: often"),
        ({"trace_rate": "0"}, 400, "sample rate must be non-zero"),
        ({"trace_count": "-2"}, 400, "Expecting value >= -1, got: -2"),
        ({"trace_level": ["OFF", "TENSORS"]}, 400, "Expect only one trace level 'OFF' is specified"),
        ({"trace_level": ["EVERYTHING"]}, 400, "unknown level 'EVERYTHING'"),
        ({"trace_speed": "1"}, 400, "unknown trace setting 'trace_speed'; there are trace_level, trace_rate"),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(
    client: Client, protocol: str, settings: Settings, status: int, said: str
) -> None:
    codes = {400: "StatusCode.INVALID_ARGUMENT", 501: "StatusCode.UNIMPLEMENTED"}
    for model in ("", "m"):
        with pytest.raises(InferenceServerException) as refused:
            client.update({"log_frequency": "5", **settings}, model)
        assert said in refused.value.message()
        assert refused.value.status() == (str(status) if protocol == "http" else codes[status])
    assert client.settings() == client.settings("m") == initial(client)


def test_a_model_that_is_not_there_has_no_settings(client: Client) -> None:
    for ask in (lambda: client.settings("nope"), lambda: client.update({"trace_rate": "1"}, "nope")):
        with pytest.raises(InferenceServerException, match="Request for unknown model: 'nope' is not found") as refused:
            ask()
        assert refused.value.status() in ("404", "StatusCode.NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("", 200, ""),
        ("{}", 200, ""),
        ("{", 400, "failed to parse"),
        ("[]", 400, "an object"),
        ('{"trace_rate": 5}', 400, "'trace_rate' expects text, or null for none of its own, got 5"),
        ('{"trace_level": [5]}', 400, "'trace_level' expects text"),
    ],
)
def test_bodies_that_tritonclient_does_not_send(server: ServerProcess, body: str, status: int, said: str) -> None:
    found, answer = post(server, "/v2/trace/setting", body)
    assert found == status
    assert said in answer.get("error", "")
    if status == 200:
        assert answer == get(server, "/v2/trace/setting")


@pytest.mark.parametrize("path", ["/v2/models/m/versions/3/trace/setting", "/v2/models//trace/setting"])
def test_versions_have_no_settings(server: ServerProcess, path: str) -> None:
    status, answer = post(server, path, "{}")
    assert (status, answer["error"].startswith("Not Found: ")) == (404, True)


def test_the_server_says_that_it_traces_and_logs_as_asked(server: ServerProcess) -> None:
    assert get(server, "/v2")["extensions"][-2:] == ["trace", "logging"]


# -- traces ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Settings]:
    found: list[Settings] = json.loads(path.read_bytes())
    return found


def by_id(path: Path) -> list[list[Settings]]:
    """The objects of each trace."""
    objects = read(path)
    return [[each for each in objects if each["id"] == number] for number in dict.fromkeys(o["id"] for o in objects)]


def events(trace: list[Settings]) -> dict[str, int]:
    return {time["name"]: time["ns"] for each in trace for time in each.get("timestamps", ())}


@pytest.fixture
def serving(
    repository: Path, tmp_path: Path, protocol: str
) -> Iterator[Callable[..., AbstractContextManager[ServerProcess]]]:
    """Starts a server that traces to ``t.json``, with other arguments."""

    def start(*settings: str, arguments: list[str] | None = None) -> AbstractContextManager[ServerProcess]:
        return running(
            repository, *config(tmp_path / "t.json", *settings), *(arguments or ()), log=tmp_path / "server.log"
        )

    return start  # type: ignore[return-value]


Serving = Callable[..., AbstractContextManager[ServerProcess]]


def infer(server: ServerProcess, protocol: str, times: int = 1, **options: Any) -> None:
    client = Client(protocol, server)
    for _ in range(times):
        client.infer(**options)
    client.close()


def test_the_times_of_a_request_are_in_the_file(serving: Serving, protocol: str, tmp_path: Path) -> None:
    with serving("level=TIMESTAMPS", "rate=1") as server:
        infer(server, protocol, 2, request_id="order 66")
    for number, trace in enumerate(by_id(tmp_path / "t.json"), 1):
        assert trace[0] == {"id": number, "model_name": "m", "model_version": 3, "request_id": "order 66"}
        found = events(trace)
        receiving, sending = FRONTEND_EVENTS[protocol]
        assert list(found) == [*receiving, *ALL_EVENTS, *sending]
        assert list(found.values()) == sorted(found.values())
        assert not [each for each in trace if "tensor" in each]


def test_the_tensors_of_a_request_are_in_the_file(serving: Serving, protocol: str, tmp_path: Path) -> None:
    with serving("level=TENSORS", "rate=1") as server:
        infer(server, protocol)
    (trace,) = by_id(tmp_path / "t.json")
    assert trace[1:] == [
        {
            "id": 1,
            "activity": "TENSOR_QUEUE_INPUT",
            "tensor": {"name": "x", "data": "0.0,1.0,2.0,3.0", "shape": "1,4", "dtype": "FP32"},
        },
        {
            "id": 1,
            "activity": "TENSOR_BACKEND_OUTPUT",
            "tensor": {"name": "y", "data": "0.0,2.0,4.0,6.0", "shape": "1,4", "dtype": "FP32"},
        },
    ]


def test_rate_and_count_choose_the_requests(serving: Serving, protocol: str, tmp_path: Path) -> None:
    with serving("level=TIMESTAMPS", "rate=3", "count=2") as server:
        client = Client(protocol, server)
        for number in range(1, 13):
            client.infer(request_id=str(number))
        client.close()
    assert [trace[0]["request_id"] for trace in by_id(tmp_path / "t.json")] == ["3", "6"]


def test_log_frequency_begins_another_file(serving: Serving, protocol: str, tmp_path: Path) -> None:
    with serving("level=TIMESTAMPS", "rate=1", "triton,log-frequency=2") as server:
        infer(server, protocol, 5)
    assert [len(by_id(tmp_path / f"t.json.{number}")) for number in range(3)] == [2, 2, 1]
    assert sorted(path.name for path in tmp_path.glob("t.json*")) == ["t.json.0", "t.json.1", "t.json.2"]


def test_tracing_can_be_switched_on_and_off_for_one_model_while_serving(
    serving: Serving, protocol: str, tmp_path: Path
) -> None:
    with serving() as server:
        client = Client(protocol, server)
        client.infer()
        client.update({"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}, "n")
        client.infer("m")
        client.infer("n")
        # Its file is whole while the server runs, too.
        assert eventually(lambda: (tmp_path / "t.json").exists() and read(tmp_path / "t.json"))
        client.update({"trace_level": None}, "n")
        client.infer("n")
        client.close()
    assert [trace[0]["model_name"] for trace in by_id(tmp_path / "t.json")] == ["n"]


def test_forwarded_headers_and_parameters_that_are_text_are_in_the_trace(
    serving: Serving, protocol: str, tmp_path: Path
) -> None:
    arguments = ["--http-header-forward-pattern=^x-", "--grpc-header-forward-pattern=^x-"]
    with serving("level=TIMESTAMPS", "rate=1", arguments=arguments) as server:
        infer(server, protocol, headers={"x-who": "me", "other": "no"})
    ((request, *_),) = by_id(tmp_path / "t.json")
    assert request["parameters"] == {"x-who": "me"}


def test_a_request_that_fails_is_traced_and_those_that_reach_no_model_are_not(
    serving: Serving, protocol: str, tmp_path: Path
) -> None:
    with serving("level=TIMESTAMPS", "rate=1") as server:
        client = Client(protocol, server)
        for model, options in (("nope", {}), ("m", {"outputs": [PROTOCOLS[protocol].InferRequestedOutput("nope")]})):
            with pytest.raises(InferenceServerException):
                client.infer(model, **options)
        client.close()
    (trace,) = by_id(tmp_path / "t.json")
    assert list(events(trace)) == [*FRONTEND_EVENTS[protocol][0], "REQUEST_START", "REQUEST_END"]


def test_each_request_of_a_stream_is_traced(repository: Path, tmp_path: Path) -> None:
    tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    answers: list[tuple[Any, Any]] = []
    with (
        running(repository, *config(tmp_path / "t.json", "level=TIMESTAMPS", "rate=1")) as server,
        tritonclient.grpc.InferenceServerClient(server.grpc) as client,
    ):
        client.start_stream(lambda result, error: answers.append((result, error)))
        for number in range(3):
            client.async_stream_infer("m", [tensor], request_id=str(number))
        client.stop_stream()
    assert [error for _, error in answers] == [None] * 3
    traces = by_id(tmp_path / "t.json")
    assert sorted(trace[0]["request_id"] for trace in traces) == ["0", "1", "2"]
    receiving, sending = FRONTEND_EVENTS["grpc"]
    assert [list(events(trace)) for trace in traces] == [[*receiving, *ALL_EVENTS, *sending]] * 3


def test_a_full_disk_hurts_no_request_and_is_told_once(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(repository, *config(Path("/dev/full"), "level=TIMESTAMPS", "rate=1"), log=log) as server:
        for protocol in PROTOCOLS:
            infer(server, protocol, 5)
            assert eventually(lambda: "No space left on device" in log.read_text())
    assert log.read_text().count("traces cannot be written") == 1


def test_the_older_flags_say_the_same(repository: Path, tmp_path: Path) -> None:
    flags = ["--trace-level=TIMESTAMPS", "--trace-level", "TENSORS", "--trace-rate=5", "--trace-count", "7"]
    flags += ["--trace-log-frequency=3", f"--trace-file={tmp_path / 't.json'}"]
    with running(repository, *flags) as server:
        assert get(server, "/v2/trace/setting") == {
            "trace_level": ["TIMESTAMPS", "TENSORS"],
            "trace_rate": "5",
            "trace_count": "7",
            "log_frequency": "3",
            "trace_file": str(tmp_path / "t.json"),
            "trace_mode": "triton",
        }


def test_the_environment_may_say_it_too_and_without_a_file_the_log_says_that_nothing_is_traced(
    repository: Path, tmp_path: Path
) -> None:
    environment = {"ORTOLAN_TRACE_CONFIG": "level=TIMESTAMPS;rate=1"}
    with running(repository, environment=environment, log=tmp_path / "log") as server:
        assert get(server, "/v2/trace/setting")["trace_level"] == ["TIMESTAMPS"]
        infer(server, "http")
    assert "nothing is traced: trace file name is not given: start the server with" in (tmp_path / "log").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_without_a_file_nothing_can_be_traced_and_the_client_is_told(repository: Path, protocol: str) -> None:
    with running(repository) as server:
        client = Client(protocol, server)
        before = client.settings()
        for model in ("", "m"):
            with pytest.raises(InferenceServerException, match="trace file name is not given: start the server with"):
                client.update({"trace_level": ["TENSORS"], "trace_rate": "1"}, model)
            assert client.settings(model) == before
        assert before["trace_file"] == ""
        client.close()


def test_both_modes_at_once_are_refused_at_the_start(repository: Path) -> None:
    done = finished("serve", repository, "--trace-config=mode=opentelemetry", "--trace-config=triton,file=t.json")
    assert done.returncode == 2
    assert done.stderr.startswith("ortolan: --trace-config: 'triton,file' belongs to mode=triton, and the mode is")
