"""The model repository through both frontends: the index, loads and unloads, and what readiness makes of them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from conformance.wire import Grpc, Http
from server_process import ServerProcess, eventually
from tritonclient.utils import InferenceServerException

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
STATUSES = {
    "http": {"INVALID_ARGUMENT": "400", "NOT_FOUND": "404", "UNAVAILABLE": "503", "UNIMPLEMENTED": "501"},
    "grpc": {code: f"StatusCode.{code}" for code in ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "UNIMPLEMENTED")},
}


class Control:
    """tritonclient's calls about the repository, over one of the two protocols."""

    def __init__(self, protocol: str, server: ServerProcess) -> None:
        self._protocol = protocol
        self._module = MODULES[protocol]
        self.client = self._module.InferenceServerClient(server.http if protocol == "http" else server.grpc)

    def index(self) -> dict[str, dict[str, str]]:
        """For each model what is told of it beside its name; "" counts as not told, as it is over gRPC."""
        told = self.client.get_model_repository_index()
        if self._protocol == "grpc":
            told = [{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in told.models]
        return {each["name"]: {key: each[key] for key in each if key != "name" and each[key]} for each in told}

    def refusal(self, call: Callable[[], object]) -> tuple[str, str]:
        """The name of gRPC's code, or what HTTP has for it, and the text."""
        with pytest.raises(InferenceServerException) as refused:
            call()
        codes = {status: code for code, status in STATUSES[self._protocol].items()}
        return codes[refused.value.status()], refused.value.message()

    def doubled(self, model: str) -> float:
        tensor = self._module.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        return float(self.client.infer(model, [tensor]).as_numpy("y")[0, 0])


@pytest.fixture(params=MODULES)
def control(request: pytest.FixtureRequest, conformance_server: ServerProcess) -> Iterator[Control]:
    control = Control(request.param, conformance_server)
    yield control
    control.client.close()


@pytest.fixture(params=MODULES)
def uncontrolled(request: pytest.FixtureRequest, model_repo_server: ServerProcess) -> Iterator[Control]:
    """A server that loads at its start and never after."""
    control = Control(request.param, model_repo_server)
    yield control
    control.client.close()


def test_a_model_comes_and_goes(control: Control) -> None:
    # A load returns when the model is ready, and may be repeated.
    for _ in range(2):
        control.client.load_model("come")
        assert control.client.is_model_ready("come")
        assert control.doubled("come") == 2
    assert control.index()["come"] == {"version": "1", "state": "READY"}
    control.client.unload_model("come")
    assert not control.client.is_model_ready("come")
    code, said = control.refusal(lambda: control.doubled("come"))
    assert (code, said) == ("NOT_FOUND", "Request for unknown model: 'come' has no available versions")
    gone = {"version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    assert eventually(lambda: control.index()["come"] == gone)
    # What was unloaded on purpose makes no server unready (fact 22).
    assert control.client.is_server_ready()


def test_a_model_that_was_never_loaded_has_a_name_only(http: Http, grpc_: Grpc) -> None:
    assert {"name": "go"} in http.post("/v2/repository/index").json
    (entry,) = (model for model in grpc_.ask("RepositoryIndex").models if model.name == "go")
    assert (entry.version, entry.state, entry.reason) == ("", "", "")
    (versioned,) = (model for model in grpc_.ask("RepositoryIndex").models if model.version == "9")
    assert (versioned.name, versioned.state) == ("versions", "READY")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":false}', b" \n"])
def test_the_index_lists_everything_unless_it_is_asked_not_to(http: Http, body: bytes) -> None:
    names = [entry["name"] for entry in http.post("/v2/repository/index", body).json]
    assert {"go", "broken", "pair"} <= set(names)


def test_the_index_can_be_of_ready_models_only(http: Http, grpc_: Grpc) -> None:
    told = http.post("/v2/repository/index", b'{"ready":true}').json
    assert {entry["state"] for entry in told} == {"READY"}
    assert {"go", "broken"} & {entry["name"] for entry in told} == set()
    assert [entry.name for entry in grpc_.ask("RepositoryIndex", ready=True).models] == [
        entry["name"] for entry in told
    ]


def test_a_load_that_fails_says_why_and_the_server_is_not_ready_until_it_is_taken_back(
    control: Control, http: Http, grpc_: Grpc
) -> None:
    code, said = control.refusal(lambda: control.client.load_model("broken"))
    assert code == "INVALID_ARGUMENT"
    assert said.startswith("load failed for model 'broken': version 1 is at UNAVAILABLE state: ")
    assert said.endswith(";\n")
    entry = control.index()["broken"]
    assert (entry["version"], entry["state"]) == ("1", "UNAVAILABLE")
    assert entry["reason"] in said
    # Facts 8 and 22: 400, not 503; the body is KServe's.
    reply = http.get("/v2/health/ready")
    assert (reply.status, reply.json) == (400, {"ready": False})
    assert http.get("/v2/health/live").status == 200
    assert not grpc_.ask("ServerReady").ready
    control.client.unload_model("broken")
    assert eventually(lambda: http.get("/v2/health/ready").status == 200)


def test_to_load_what_is_not_in_the_repository_is_refused(control: Control) -> None:
    code, said = control.refusal(lambda: control.client.load_model("nobody"))
    assert code == "INVALID_ARGUMENT"
    assert said.startswith("failed to load 'nobody', failed to poll from model repository")


@pytest.mark.parametrize("dependents", [False, True])
def test_to_unload_what_is_not_there_is_fine(control: Control, dependents: bool) -> None:
    """Fact 24."""
    control.client.unload_model("nobody", unload_dependents=dependents)
    control.client.unload_model("go", unload_dependents=dependents)


def test_a_repository_cannot_be_named(http: Http, grpc_: Grpc) -> None:
    said = "'repository_name' specification is not supported"
    for method, fields in (
        ("RepositoryIndex", {}),
        ("RepositoryModelLoad", {"model_name": "go"}),
        ("RepositoryModelUnload", {"model_name": "go"}),
    ):
        request = grpc_.request(method, repository_name="mine", **fields)
        assert grpc_.refusal(method, request) == ("UNIMPLEMENTED", said)
    for path in ("index", "models/go/load", "models/go/unload"):
        reply = http.post(f"/v2/repository/mine/{path}")
        assert (reply.status, reply.json) == (501, {"error": said}), path


def test_where_the_api_may_not_load_it_says_so(uncontrolled: Control) -> None:
    """Fact 24."""
    calls: list[Any] = [uncontrolled.client.load_model, uncontrolled.client.unload_model]
    for call in calls:
        code, said = uncontrolled.refusal(lambda call=call: call("iris"))  # type: ignore[misc]
        assert code == "UNAVAILABLE"
        # Triton goes on with "if polling is enabled", also in this mode, in which that is not so.
        assert said.startswith("explicit model load / unload is not allowed where models are only loaded at the start")
        assert "--model-control-mode=explicit" in said
    assert uncontrolled.client.is_model_ready("iris")
    assert uncontrolled.index()["iris"] == {"version": "1", "state": "READY"}
