"""Every route and every method, without a key, with one that is not known, with too little, and with the right one."""

import http.client
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import grpc
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from callers import Reply, ask, grpc_request, rest_body, row
from server_process import ServerProcess, eventually, finished, running

from ortolan.frontends.access.api_keys import new_key
from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.rest.operations import operation_of
from ortolan.protocol import protobuf_messages as messages

ALL, INFER, READ, ADMIN, LIMITED = (new_key(name, scopes) for name, scopes in (
    ("all", []),
    ("infer", ["infer"]),
    ("read", ["read"]),
    ("admin", ["admin"]),
    ("limited", ["infer@doubler", "read@doubler", "admin@doubler"]),
))  # fmt: skip
BY_SCOPE = {"infer": INFER, "read": READ, "admin": ADMIN}
OPEN_ROUTES = {"/", "/ping", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs", "/docs/swagger-ui.css"}
OPEN_METHODS = {"ServerLive", "ServerReady", "Check", "Watch", "ServerReflectionInfo"}
NAMES = {"model_name": "doubler", "model_version": "1", "region_name": "region", "repository_name": "r"}


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def key_file(path: Path, *keys: tuple[str, str]) -> Path:
    path.write_text("".join(line + "\n" for _, line in keys))
    return path


def two_models(root: Path) -> Path:
    for name in ("doubler", "neighbour"):
        onnx_models.save_version(root, name, onnx_models.doubler())
    return root


@pytest.fixture(scope="module", params=["http2", "grpcio", "one port"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("models")
    keys = key_file(tmp_path_factory.mktemp("keys") / "keys", ALL, INFER, READ, ADMIN, LIMITED)
    flags = [f"--api-keys-file={keys}", "--model-control-mode=explicit", "--load-model=*"]
    if request.param == "one port":
        # Of which it is told by the first of two servers, so that it is free.
        with running(two_models(root), "--model-control-mode=explicit") as first:
            port = first.http_port
        flags += [f"--http-port={port}", f"--grpc-port={port}"]
    else:
        flags.append(f"--grpc-transport={request.param}")
    with running(two_models(root), *flags) as server:
        yield server


def documented(server: ServerProcess) -> list[tuple[str, str]]:
    """Every route as the document has it, and those that it leaves out."""
    paths = ask(server, "GET", "/openapi.json").json["paths"]
    found = [
        (method.upper(), re.sub(r"\{(\w+)\}", lambda name: NAMES[name[1]], path))
        for path, operations in paths.items()
        for method in operations
    ]
    return [*found, ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/docs/swagger-ui.css")]


def told_no_model(reply: Reply) -> bool:
    return b"doubler" not in reply.body and b"neighbour" not in reply.body


def test_every_route_without_with_a_wrong_with_too_small_and_with_the_right_key(server: ServerProcess) -> None:
    routes = documented(server)
    assert len(routes) > 40
    for method, path in routes:
        if path in OPEN_ROUTES:
            assert ask(server, method, path).status == 200, path
            continue
        asked = operation_of(method, path)
        assert asked is not None, (method, path)
        scopes = {scope.value for scope in asked.operation.scopes}
        assert scopes, (method, path)
        for sent in ({}, headers("wrong"), {"X-API-Key": "wrong"}, {"Authorization": f"Basic {ALL[0]}"}, headers("")):
            refused = ask(server, method, path, b"{}" if method == "POST" else None, sent)
            assert (refused.status, told_no_model(refused)) == (401, True), (method, path, refused.body)
            assert refused.headers["www-authenticate"] == 'Bearer realm="ortolan"'
        for scope, (key, _) in BY_SCOPE.items():
            reply = ask(server, method, path, b"{}" if method == "POST" else None, headers(key))
            assert (reply.status == 403) is (scope not in scopes), (method, path, scope, reply.body)
            assert told_no_model(reply) or reply.status != 403
        assert ask(server, method, path, b"{}" if method == "POST" else None, headers(ALL[0])).status not in (401, 403)
        # What the routes left behind: the next ones need the model.
        ask(server, "POST", "/v2/repository/models/doubler/load", {}, headers(ALL[0]))


@pytest.mark.parametrize("path", ["/nothing", "/v2/nothing", "/v2/models/doubler/nothing", "/v1", "/v2/logging/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_what_is_no_route_needs_a_key_too(server: ServerProcess, method: str, path: str) -> None:
    assert ask(server, method, path).status == 401
    assert ask(server, method, path, None, headers(INFER[0])).status in (404, 405)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_no_other_method_opens_a_route(server: ServerProcess, method: str) -> None:
    for path in ("/v2/models/doubler/infer", "/v2/repository/models/doubler/unload", "/v2/logging"):
        assert ask(server, method, path).status == 401
        assert ask(server, method, path, None, headers(READ[0])).status in (403, 405)


def test_no_spelling_of_a_path_opens_a_route(server: ServerProcess) -> None:
    for method, path in documented(server):
        if path in OPEN_ROUTES:
            continue
        spellings = [path + end for end in ("%0A", "%00", "/", "//", "%2F", "%20", "?", "?x=/docs", "#/docs")]
        spellings += ["/" + path, path.replace("/", "//"), path.upper(), "/." + path, "/docs/.." + path]
        spellings += [path.replace("models", "mode%6Cs"), path.replace("/v2", "/%76%32")]
        for spelling in spellings:
            refused = ask(server, method, spelling, b"{}" if method == "POST" else None)
            assert refused.status in (401, 404), (method, spelling, refused.body)
            assert told_no_model(refused)


def methods() -> Iterator[tuple[str, str, bool]]:
    for service in (messages.INFERENCE_SERVICE, messages.HEALTH_SERVICE):
        for method in messages.service_methods(service):
            yield method.name, f"/{service}/{method.name}", method.client_streaming or method.server_streaming
    yield "ServerReflectionInfo", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True


def outcome(
    channel: grpc.Channel, path: str, is_stream: bool, metadata: Sequence[tuple[str, str]], data: bytes = b""
) -> tuple[grpc.StatusCode, str]:
    try:
        if is_stream:
            next(channel.stream_stream(path)(iter([data]), timeout=20, metadata=metadata))
        else:
            channel.unary_unary(path)(data, timeout=20, metadata=metadata)
    except grpc.RpcError as error:
        return error.code(), error.details()
    except StopIteration:
        pass
    return grpc.StatusCode.OK, ""


def test_every_method_without_with_a_wrong_with_too_small_and_with_the_right_key(server: ServerProcess) -> None:
    unknown, denied = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
    seen = 0
    with grpc.insecure_channel(server.grpc) as channel:
        for name, path, is_stream in methods():
            if name in OPEN_METHODS:
                assert outcome(channel, path, is_stream, ())[0] not in (unknown, denied), name
                continue
            seen += 1
            data = b"" if is_stream else request_of(name)
            scopes = {scope.value for scope in OPERATIONS[name].scopes}
            for sent in ((), (("authorization", "Bearer wrong"),), (("x-api-key", "wrong"),)):
                code, details = outcome(channel, path, is_stream, sent, data)
                assert (code, "doubler" in details) == (unknown, False), (name, code)
            for scope, (key, _) in BY_SCOPE.items():
                code, _ = outcome(channel, path, is_stream, (("authorization", f"Bearer {key}"),), data)
                assert (code is denied) is (scope not in scopes), (name, scope, code)
            code, _ = outcome(channel, path, is_stream, (("x-api-key", ALL[0]),), data)
            assert code not in (unknown, denied), name
            load = messages.RepositoryModelLoadRequest(model_name="doubler").SerializeToString()
            load_path = f"/{messages.INFERENCE_SERVICE}/RepositoryModelLoad"
            outcome(channel, load_path, False, (("x-api-key", ALL[0]),), load)
    assert seen == len(messages.service_methods(messages.INFERENCE_SERVICE)) - 2


def request_of(method: str, model: str = "doubler") -> bytes:
    """A request to ``method`` about ``model``, where it is about one."""
    if method == "ModelInfer":
        return grpc_request(model, row(1))
    if not hasattr(messages, f"{method}Request"):
        return b""
    message = getattr(messages, f"{method}Request")()
    for field in ("name", "model_name"):
        if field in message.DESCRIPTOR.fields_by_name and "SharedMemory" not in method:
            setattr(message, field, model)
    return bytes(message.SerializeToString())


def test_a_key_for_one_model_reaches_this_one_and_no_other(server: ServerProcess) -> None:
    mine = headers(LIMITED[0])
    body = rest_body(row(1))
    assert ask(server, "POST", "/v2/models/doubler/infer", body, mine).status == 200
    for path in ("ready", "config", "stats", "versions/1"):
        assert ask(server, "GET", f"/v2/models/doubler/{path}", None, mine).status == 200, path
    assert ask(server, "GET", "/v2", None, mine).status == 200
    for method, path in (
        *(("POST", f"/v2/models/{model}/infer") for model in ("neighbour", "absent", "doubler2", "doubler%2Fx")),
        *(("GET", f"/v2/models/neighbour{end}") for end in ("", "/ready", "/config", "/stats", "/trace/setting")),
        ("POST", "/v2/repository/models/neighbour/load"),
        ("POST", "/v2/repository/models/neighbour/unload"),
        # What is about all models, or about the server, is more than one.
        *(("GET", f"/v2/{path}") for path in ("models", "models/stats", "logging", "trace/setting")),
        ("GET", "/v1/models"),
        *(("POST", path) for path in ("/v2/repository/index", "/v2/logging", "/v2/systemsharedmemory/unregister")),
    ):
        refused = ask(server, method, path, body if method == "POST" else None, mine)
        expected = 404 if "%2F" in path else 403
        assert (refused.status, told_no_model(refused)) == (expected, True), (method, path, refused.body)


def test_a_key_for_one_model_reaches_no_other_over_grpc(server: ServerProcess) -> None:
    metadata = (("x-api-key", LIMITED[0]),)
    per_model = [name for name in OPERATIONS if hasattr(messages, f"{name}Request")]
    per_model = [name for name in per_model if "doubler" in request_of(name).decode("latin-1")]
    assert len(per_model) == 8
    with grpc.insecure_channel(server.grpc) as channel:
        for name in per_model:
            path = f"/{messages.INFERENCE_SERVICE}/{name}"
            # Again and again, because requests of a form that is known go another way.
            for _ in range(8 if name == "ModelInfer" else 1):
                assert outcome(channel, path, False, metadata, request_of(name))[0] is grpc.StatusCode.OK, name
                assert outcome(channel, path, False, (("x-api-key", ALL[0]),), request_of(name, "neighbour"))[0] in (
                    grpc.StatusCode.OK,
                    grpc.StatusCode.UNAVAILABLE,
                )
                code, details = outcome(channel, path, False, metadata, request_of(name, "neighbour"))
                assert (code, "neighbour" in details) == (grpc.StatusCode.PERMISSION_DENIED, False), (name, code)
            if name == "RepositoryModelUnload":
                for model in ("doubler", "neighbour"):
                    load = request_of("RepositoryModelLoad", model)
                    everything = (("x-api-key", ALL[0]),)
                    load_path = f"/{messages.INFERENCE_SERVICE}/RepositoryModelLoad"
                    assert outcome(channel, load_path, False, everything, load)[0] is grpc.StatusCode.OK
        # Reading is not changing.
        change = messages.TraceSettingRequest(model_name="neighbour")
        change.settings["trace_rate"].value.append("7")
        reader = (("x-api-key", READ[0]),)
        path = f"/{messages.INFERENCE_SERVICE}/TraceSetting"
        assert outcome(channel, path, False, reader, request_of("TraceSetting"))[0] is grpc.StatusCode.OK
        code, _ = outcome(channel, path, False, reader, bytes(change.SerializeToString()))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        logs = messages.LogSettingsRequest()
        logs.settings["log_info"].bool_param = False
        code, _ = outcome(
            channel, f"/{messages.INFERENCE_SERVICE}/LogSettings", False, reader, bytes(logs.SerializeToString())
        )
        assert code is grpc.StatusCode.PERMISSION_DENIED


def test_each_request_of_a_stream_is_checked(server: ServerProcess) -> None:
    path = f"/{messages.INFERENCE_SERVICE}/ModelStreamInfer"
    with grpc.insecure_channel(server.grpc) as channel:
        sent = [grpc_request(model, row(1)) for model in ("doubler", "neighbour", "doubler")]
        answers = channel.stream_stream(path)(iter(sent), timeout=20, metadata=(("x-api-key", LIMITED[0]),))
        texts = [messages.ModelStreamInferResponse.FromString(answer).error_message for answer in answers]
    assert [bool(text) for text in texts] == [False, True, False]
    assert "neighbour" not in texts[1]


def test_on_one_connection_each_request_has_its_own_key(server: ServerProcess) -> None:
    """Whose form is known, and whose head has come before, is checked as any other."""
    body = rest_body(row(1))
    codes = []
    with closing(http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)) as connection:
        for _ in range(6):
            for key in (INFER[0], "wrong", READ[0], None):
                sent = headers(key) if key else {}
                connection.request("POST", "/v2/models/doubler/infer", body, sent)
                response = connection.getresponse()
                codes.append(response.status)
                response.read()
    assert codes == [200, 401, 403, 401] * 6


def test_tritons_clients_send_keys_as_headers(server: ServerProcess) -> None:
    data = np.array([[1, 2, 3, 4]], np.float32)
    with closing(triton_http.InferenceServerClient(server.http)) as client:
        given = triton_http.InferInput("x", data.shape, "FP32").set_data_from_numpy(data)
        result = client.infer("doubler", [given], headers=headers(INFER[0]))
        assert result.as_numpy("y").tolist() == (2 * data).tolist()
    with closing(triton_grpc.InferenceServerClient(server.grpc)) as client:
        given = triton_grpc.InferInput("x", data.shape, "FP32").set_data_from_numpy(data)
        result = client.infer("doubler", [given], headers={"authorization": f"Bearer {INFER[0]}"})
        assert result.as_numpy("y").tolist() == (2 * data).tolist()


def test_the_document_tells_of_keys_and_of_no_model(server: ServerProcess) -> None:
    reply = ask(server, "GET", "/openapi.json")
    assert told_no_model(reply)
    operation = reply.json["paths"]["/v2/models/{model_name}/infer"]["post"]
    assert {"401", "403"} <= set(operation["responses"])
    assert operation["security"] == [{"bearer": []}, {"apiKey": []}]
    assert "security" not in reply.json["paths"]["/v2/health/ready"]["get"]


def test_keys_come_and_go_with_the_file(tmp_path: Path) -> None:
    keys = key_file(tmp_path / "keys", INFER)
    body = rest_body(row(1))

    def code(key: str) -> int:
        return ask(server, "POST", "/v2/models/doubler/infer", body, headers(key)).status

    log = tmp_path / "log"
    with running(two_models(tmp_path / "models"), f"--api-keys-file={keys}", log=log) as server:
        assert [code(INFER[0]) for _ in range(5)] == [200] * 5
        key_file(keys, ALL)
        eventually(lambda: code(INFER[0]) == 401)
        assert code(ALL[0]) == 200
        keys.write_text("nonsense")
        eventually(lambda: "the keys stay as they were" in log.read_text())
        assert code(ALL[0]) == 200
        assert ask(server, "GET", "/v2/health/ready").status == 200
    assert ALL[0] not in log.read_text()


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
def test_an_open_stream_ends_when_its_key_goes(tmp_path: Path, transport: str) -> None:
    keys = key_file(tmp_path / "keys", INFER, ALL)
    flags = (f"--api-keys-file={keys}", f"--grpc-transport={transport}")
    with running(two_models(tmp_path / "models"), *flags) as server, grpc.insecure_channel(server.grpc) as channel:
        go_on = threading.Event()

        def sent() -> Iterator[bytes]:
            yield grpc_request("doubler", row(1))
            go_on.wait(30)
            yield grpc_request("doubler", row(1))

        stream = channel.stream_stream(f"/{messages.INFERENCE_SERVICE}/ModelStreamInfer")
        answers = stream(sent(), timeout=40, metadata=(("x-api-key", INFER[0]),))
        assert not messages.ModelStreamInferResponse.FromString(next(answers)).error_message
        key_file(keys, ALL)
        eventually(lambda: ask(server, "GET", "/v2", None, headers(INFER[0])).status == 401)
        go_on.set()
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_who_administers_one_model_reaches_no_other_by_way_of_an_ensemble(server: ServerProcess) -> None:
    mine = headers(LIMITED[0])
    step = {"model_name": "neighbour", "model_version": -1, "input_map": {"x": "x"}, "output_map": {"y": "y"}}
    tensors = {"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]}
    tensors["output"] = [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}]
    for name in ("ensemble_scheduling", "ensembleScheduling"):
        config = json.dumps({"platform": "ensemble", **tensors, name: {"step": [step]}}).replace("e", "\\u0065", 3)
        reply = ask(server, "POST", "/v2/repository/models/doubler/load", {"parameters": {"config": config}}, mine)
        assert (reply.status, told_no_model(reply)) == (403, True), reply.body
        with grpc.insecure_channel(server.grpc) as channel:
            request = messages.RepositoryModelLoadRequest(model_name="doubler")
            request.parameters["config"].string_param = config
            code, _ = outcome(
                channel,
                f"/{messages.INFERENCE_SERVICE}/RepositoryModelLoad",
                False,
                (("x-api-key", LIMITED[0]),),
                bytes(request.SerializeToString()),
            )
            assert code is grpc.StatusCode.PERMISSION_DENIED
    dependents = {"parameters": {"unload_dependents": True}}
    assert ask(server, "POST", "/v2/repository/models/doubler/unload", dependents, mine).status == 403
    plain = {"parameters": {"config": "{}"}}
    assert ask(server, "POST", "/v2/repository/models/doubler/load", plain, mine).status == 200
    assert ask(server, "POST", "/v2/repository/models/doubler/load", {}, mine).status == 200


def test_who_may_administer_may_change_settings_over_grpc_as_over_http(server: ServerProcess) -> None:
    logs = messages.LogSettingsRequest()
    logs.settings["log_verbose_level"].uint32_param = 0
    trace = messages.TraceSettingRequest(model_name="doubler")
    trace.settings["trace_rate"].value.append("1000")
    admin = (("x-api-key", ADMIN[0]),)
    with grpc.insecure_channel(server.grpc) as channel:
        for name, request in (("LogSettings", logs), ("TraceSetting", trace)):
            path = f"/{messages.INFERENCE_SERVICE}/{name}"
            assert outcome(channel, path, False, admin, bytes(request.SerializeToString()))[0] is grpc.StatusCode.OK
            assert outcome(channel, path, False, admin)[0] is grpc.StatusCode.PERMISSION_DENIED


def test_a_wrong_file_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"me:{ALL[0]}\n")
    ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    ended = finished("serve", two_models(tmp_path / "models"), f"--api-keys-file={tmp_path / 'keys'}", *ports)
    assert ended.returncode == 2
    assert "--api-keys-file: line 1: expected NAME:sha256:HEX" in ended.stderr
    assert ALL[0] not in ended.stderr


def test_a_key_is_made_with_its_line(tmp_path: Path) -> None:
    made = finished("api-key", "me", "--scopes=infer@doubler")
    assert made.returncode == 0
    key, line = (text.strip() for text in made.stdout.splitlines()[1::2])
    assert line.startswith("me:sha256:")
    key_file(tmp_path / "keys", (key, line))
    other = finished("api-key", "other", f"--file={tmp_path / 'keys'}").stdout.strip()
    assert (tmp_path / "keys").read_text().count(":infer,read\n") == 1
    with running(two_models(tmp_path / "models"), f"--api-keys-file={tmp_path / 'keys'}") as server:
        assert ask(server, "POST", "/v2/models/doubler/infer", rest_body(row(1)), headers(key)).status == 200
        assert ask(server, "POST", "/v2/models/neighbour/infer", rest_body(row(1)), headers(key)).status == 403
        assert ask(server, "POST", "/v2/models/neighbour/infer", rest_body(row(1)), headers(other)).status == 200
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "  access   by keys; health and the documentation are open\n"
    for scopes in ("everything", "", "infer,"):
        assert finished("api-key", "me", f"--scopes={scopes}").returncode == 2


class TestAdministration:
    """Without keys: on a loopback address as the control mode says, elsewhere closed."""

    CHANGES = (
        ("POST", "/v2/repository/models/doubler/load", {}),
        ("POST", "/v2/logging", {"log_verbose_level": 0}),
        ("POST", "/v2/trace/setting", {"trace_rate": "7"}),
        ("POST", "/v2/models/doubler/trace/setting", {"trace_rate": "7"}),
        ("GET", "/v2/systemsharedmemory/status", None),
        ("POST", "/v2/systemsharedmemory/unregister", {}),
        ("POST", "/v2/repository/models/doubler/unload", {}),
    )

    def codes(self, server: ServerProcess, sent: dict[str, str] | None = None) -> list[int]:
        return [ask(server, *change, sent).status for change in self.CHANGES]

    def test_on_a_loopback_address_it_is_open_to_programs_there(self, tmp_path: Path) -> None:
        with running(two_models(tmp_path), "--model-control-mode=explicit", "--load-model=*") as server:
            assert {*self.codes(server)} <= {200, 501}
            assert {*self.codes(server, {"Host": "localhost"})} <= {200, 501}
            # A page of another site, and one whose name was made to lead here.
            for sent in ({"Origin": "http://pages.example"}, {"Host": "pages.example"}, {"Origin": "null"}):
                assert {*self.codes(server, sent)} == {403}, sent
                assert ask(server, "POST", "/v2/repository/index", {}, sent).status == 200
            own = {"Origin": f"http://127.0.0.1:{server.http_port}"}
            assert {*self.codes(server, own)} <= {200, 501}

    def test_elsewhere_it_is_closed_and_the_rest_is_open(self, tmp_path: Path) -> None:
        flags = ("--http-address=0.0.0.0", "--grpc-address=0.0.0.0", "--metrics-address=127.0.0.1")
        with running(two_models(tmp_path), *flags, "--model-control-mode=explicit", "--load-model=*") as server:
            assert {*self.codes(server)} == {403}
            assert "--admin-operations=open" in json.dumps(ask(server, *self.CHANGES[0]).json)
            assert ask(server, "POST", "/v2/models/doubler/infer", rest_body(row(1))).status == 200
            assert ask(server, "POST", "/v2/repository/index", {}).status == 200
            with grpc.insecure_channel(server.grpc) as channel:
                for name in ("RepositoryModelUnload", "SystemSharedMemoryStatus"):
                    path = f"/{messages.INFERENCE_SERVICE}/{name}"
                    code, _ = outcome(channel, path, False, (), request_of(name))
                    assert code is grpc.StatusCode.PERMISSION_DENIED
                path = f"/{messages.INFERENCE_SERVICE}/ModelInfer"
                assert outcome(channel, path, False, (), request_of("ModelInfer"))[0] is grpc.StatusCode.OK

    def test_an_operator_may_open_it(self, tmp_path: Path) -> None:
        flags = ("--http-address=0.0.0.0", "--metrics-address=127.0.0.1", "--admin-operations=open")
        with running(two_models(tmp_path), *flags, "--model-control-mode=explicit", "--load-model=*") as server:
            assert {*self.codes(server, {"Host": "anything.example"})} <= {200, 501}
