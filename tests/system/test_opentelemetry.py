"""Requests as OpenTelemetry's spans: over every door, in batches and ensembles, with receivers that are not there."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ensembles
import grpc
import httpx
import numpy as np
import onnx_models
import onnx_sequences
import pytest
import tritonclient.grpc
from callers import ask, grpc_request, rest, rest_body, row
from otlp_receivers import Received, Receiver, grpc_receiver, http_receiver
from server_process import ServerProcess, eventually, running

from ortolan.protocol import protobuf_messages as messages

SOON_S = 20
FOURS = "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 60000000 }"
ONE_AT_A_TIME = "max_batch_size: 1 instance_group [ { count: 1, kind: KIND_CPU } ]"
CACHED = "response_cache { enable: true }"
SUMS = """
max_batch_size: 4
sequence_batching { state [ {
    input_name: "sum_in" output_name: "sum_out" data_type: TYPE_FP32 dims: 1
    initial_state: { data_type: TYPE_FP32 dims: 1 zero_data: true name: "zero" } } ] }
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
"""
OPENTELEMETRY = ("--trace-config=mode=opentelemetry", "--trace-config=level=TIMESTAMPS")
ONLY_M = ("--model-control-mode=explicit", "--load-model=m")
SERVER = 2
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass
class Caller:
    """Somebody whose requests belong to a trace."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def headers(self) -> dict[str, str]:
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}", "tracestate": "them=1"}

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return list(self.headers.items())


@pytest.fixture
def caller() -> Caller:
    return new_caller()


def new_caller(sampled: bool = True) -> Caller:
    return Caller(os.urandom(16).hex(), os.urandom(8).hex(), sampled)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    onnx_models.save_version(root, "m", onnx_models.doubler(), 3, "max_batch_size: 8")
    onnx_models.save_version(root, "four", onnx_models.doubler(), config=FOURS)
    onnx_models.save_version(root, "asked", onnx_models.slow_as_asked(), config=ONE_AT_A_TIME)
    onnx_models.save_version(root, "table", onnx_models.gather())
    onnx_models.save_version(root, "kept", onnx_models.doubler(), config=CACHED)
    onnx_models.save_version(root, "sums", onnx_sequences.accumulator(), config=SUMS)
    ensembles.save_like_a_model(root, "inner", "m", "m")
    ensembles.save_like_a_model(root, "both", "inner", "m")
    return root


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(repository: Path, receiver: Receiver) -> Iterator[ServerProcess]:
    """One that traces what its callers trace; all on one port, so that every protocol is there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    to_receiver = (f"opentelemetry,url={receiver.url}", "opentelemetry,bsp_schedule_delay=50", "rate=0")
    arguments = (f"--http-port={port}", f"--grpc-port={port}", "--cache-config=local,size=1000000")
    with running(repository, *OPENTELEMETRY, *(f"--trace-config={each}" for each in to_receiver), *arguments) as server:
        yield server


def path_of(model: str) -> str:
    return f"/v2/models/{model}/infer"


Answered = tuple[bool, str | None]
"""Whether there was an answer, and its ``traceresponse``."""


def over_http1(server: ServerProcess, headers: dict[str, str], array: np.ndarray, model: str, path: str) -> Answered:
    """The second of two such requests, which would be known by then."""
    with httpx.Client(base_url=f"http://{server.http}", timeout=SOON_S) as client:
        for _ in range(2):
            reply = client.post(path or path_of(model), content=rest_body(array), headers=headers)
    return reply.status_code == 200, reply.headers.get("traceresponse")


def over_asgi(server: ServerProcess, headers: dict[str, str], array: np.ndarray, model: str, path: str) -> Answered:
    """As spelt unusually, so that uvicorn has it."""
    return over_http1(server, headers, array, model, f"{path or path_of(model)}?x")


def over_http2(server: ServerProcess, headers: dict[str, str], array: np.ndarray, model: str, path: str) -> Answered:
    with httpx.Client(base_url=f"http://{server.http}", http1=False, http2=True, timeout=SOON_S) as client:
        reply = client.post(path or path_of(model), content=rest_body(array), headers=headers)
    return reply.status_code == 200, reply.headers.get("traceresponse")


def over_grpc(server: ServerProcess, headers: dict[str, str], array: np.ndarray, model: str, _: str) -> Answered:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(2):
            try:
                _, done = call.with_call(grpc_request(model, array), SOON_S, metadata=list(headers.items()))
            except grpc.RpcError as error:
                return False, dict(error.trailing_metadata()).get("traceresponse")
    return True, dict(done.trailing_metadata()).get("traceresponse")


def over_stream(server: ServerProcess, headers: dict[str, str], array: np.ndarray, model: str, _: str) -> Answered:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        (data,) = call(iter([grpc_request(model, array)]), SOON_S, metadata=list(headers.items()))
    answer = messages.ModelStreamInferResponse.FromString(data)
    parameters = answer.infer_response.parameters
    told = parameters["traceresponse"].string_param if "traceresponse" in parameters else None
    return not answer.error_message, told


Door = Callable[[ServerProcess, dict[str, str], np.ndarray, str, str], Answered]
DOORS: dict[str, Door] = {
    "HTTP/1": over_http1,
    "ASGI": over_asgi,
    "HTTP/2": over_http2,
    "gRPC": over_grpc,
    "stream": over_stream,
}
HTTP_TELLS = {"ortolan.protocol": "http", "http.request.method": "POST", "http.route": "/v2/models/{model}/infer"}
GRPC_TELLS = {"ortolan.protocol": "grpc", "rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService"}


def tells(door: str, ok: bool) -> dict[str, Any]:
    """What the span of a request says of how it came, and of a fault of its client."""
    if door in ("gRPC", "stream"):
        method = "ModelInfer" if door == "gRPC" else "ModelStreamInfer"
        return {**GRPC_TELLS, "rpc.method": method, "rpc.grpc.status_code": 0 if ok else 3}
    return {**HTTP_TELLS, "http.response.status_code": 200 if ok else 400}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def one(receiver: Receiver, trace_id: str, name: str = "InferRequest") -> Received:
    """The last span of this name in the trace, once all of a request are there: its own comes last."""
    eventually(lambda: [span for span in receiver.of_trace(trace_id) if span.name == "InferRequest"])
    return [span for span in receiver.of_trace(trace_id) if span.name == name][-1]


def answered_with(receiver: Receiver, told: str | None) -> Received:
    """The span of the request whose answer had this ``traceresponse``, once it is there."""
    return eventually(
        lambda: [span for span in receiver.named("InferRequest") if told == f"00-{span.trace_id}-{span.span_id}-01"]
    )[0]


def batch_of(receiver: Receiver, compute: Received) -> Received:
    """The span of the execution that ``compute`` was part of, which comes a second after it."""
    (link,) = compute.links
    (batch,) = eventually(lambda: receiver.of_trace(link.trace_id))
    assert (batch.name, batch.link) == ("batch", link)
    return batch


# -- a request ---------------------------------------------------------------------------------------------------------


def test_a_request_is_a_span_of_its_callers_trace_and_its_answer_says_so(
    server: ServerProcess, receiver: Receiver, caller: Caller, door: str
) -> None:
    begin_ns = time.time_ns()
    answered, told = DOORS[door](server, caller.headers, row(1), "m", "")
    assert answered
    request = answered_with(receiver, told)
    assert (request.trace_id, request.parent_id, request.kind) == (caller.trace_id, caller.span_id, SERVER)
    assert (request.state, request.error) == ("them=1", None)
    assert request.attributes == tells(door, True) | {
        "triton.model_name": "m",
        "triton.model_version": 3,
        "ortolan.outcome": "success",
        "ortolan.batch.rows": 1,
    }
    (model,) = receiver.below(request, "m")
    ((queue,), (compute,)) = (receiver.below(model, name) for name in ("queue", "compute"))
    assert begin_ns <= request.start_ns <= model.start_ns <= queue.start_ns <= queue.end_ns == compute.start_ns
    assert compute.start_ns <= compute.events[0][1] <= compute.events[1][1] <= compute.end_ns <= model.end_ns
    assert model.end_ns <= request.end_ns <= time.time_ns()
    assert [name for name, _, _ in compute.events] == ["COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"]
    batch = batch_of(receiver, compute)
    assert batch.links == [request.link]
    assert (batch.start_ns, batch.end_ns) == (compute.start_ns, compute.end_ns)
    assert request.resource["service.name"] == "ortolan"
    assert {"service.version", "service.instance.id", "telemetry.sdk.name"} <= set(request.resource)


def test_a_request_that_fails_has_its_spans_and_the_kind_of_its_error(
    server: ServerProcess, receiver: Receiver, caller: Caller, door: str
) -> None:
    answered, told = DOORS[door](server, caller.headers, np.zeros((1, 5), np.float32), "m", "")
    assert not answered
    # The answer of a stream that says what went wrong has no parameters.
    assert (told is None) == (door == "stream")
    request = one(receiver, caller.trace_id) if told is None else answered_with(receiver, told)
    assert request.attributes == tells(door, False) | {
        "triton.model_name": "m",
        "triton.model_version": 3,
        "ortolan.outcome": "backend",
        "error.type": "InvalidArgument",
    }
    assert request.error is not None
    assert request.error.startswith("InvalidArgument: ")
    assert [span.name for span in receiver.of_trace(caller.trace_id)].count("compute") == 0


def test_requests_that_nobody_traces_leave_none(server: ServerProcess, receiver: Receiver, door: str) -> None:
    untraced = new_caller(sampled=False)
    invalid = {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}
    for headers in ({}, untraced.headers, invalid):
        assert DOORS[door](server, headers, row(2), "m", "") == (True, None)
    # Whatever had been sent of them would be here before this.
    last = new_caller()
    DOORS[door](server, last.headers, row(2), "m", "")
    one(receiver, last.trace_id)
    assert not receiver.of_trace(untraced.trace_id)
    assert not receiver.of_trace("0" * 32)


def test_who_goes_before_the_answer_leaves_whole_spans(
    server: ServerProcess, receiver: Receiver, caller: Caller
) -> None:
    async def go() -> None:
        asking = asyncio.create_task(rest(server, "asked", row(2.0**40), headers=caller.headers))
        await asyncio.to_thread(
            eventually, lambda: ask(server, "GET", "/v2/models/asked/stats").json["model_stats"] and running_one(server)
        )
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(go())
    request = one(receiver, caller.trace_id)
    assert (request.attributes["ortolan.outcome"], request.attributes["error.type"]) == ("canceled", "Cancelled")
    assert "http.response.status_code" not in request.attributes
    assert one(receiver, caller.trace_id, "asked").error is not None


def running_one(server: ServerProcess) -> bool:
    text = httpx.get(f"http://{server.metrics}/metrics").text
    return 'nv_inference_pending_request_count{model="asked",version="1"} 0' in text


def test_a_request_whose_deadline_passes_is_rejected(server: ServerProcess, receiver: Receiver, caller: Caller) -> None:
    reply = ask(
        server, "POST", path_of("asked"), rest_body(row(2.0**40)), {**caller.headers, "x-request-timeout": "0.05"}
    )
    assert reply.status == 504
    request = one(receiver, caller.trace_id)
    assert (request.attributes["ortolan.outcome"], request.attributes["error.type"]) == ("rejected", "DeadlineExceeded")
    assert request.attributes["http.response.status_code"] == 504


def test_what_fails_within_a_model_is_an_error_of_its_spans(
    server: ServerProcess, receiver: Receiver, caller: Caller
) -> None:
    reply = ask(server, "POST", path_of("table"), rest_body(np.array([[9]])), caller.headers)
    assert reply.status == 400
    assert "traceresponse" in reply.headers
    error = one(receiver, caller.trace_id, "table").error
    assert error is not None
    assert "indices element out of data bounds" in error


def test_an_answer_out_of_the_cache_says_so(server: ServerProcess, receiver: Receiver) -> None:
    callers = new_caller(), new_caller()
    for caller in callers:
        assert ask(server, "POST", path_of("kept"), rest_body(row(7)), caller.headers).status == 200
    ran, kept = (one(receiver, caller.trace_id, "kept") for caller in callers)
    assert ("ortolan.cache_hit" in ran.attributes, kept.attributes.get("ortolan.cache_hit")) == (False, True)
    assert (len(receiver.below(ran, "compute")), receiver.below(kept, "compute")) == (1, [])


def test_a_sequence_has_a_trace_for_each_of_its_requests(server: ServerProcess, receiver: Receiver) -> None:
    callers = [new_caller(), new_caller()]
    for caller, start, end in zip(callers, (True, False), (False, True), strict=True):
        parameters = {"sequence_id": 5, "sequence_start": start, "sequence_end": end}
        body = rest_body(np.ones((1, 1), np.float32), parameters=parameters)
        assert ask(server, "POST", path_of("sums"), body, caller.headers).status == 200
    for caller in callers:
        compute = one(receiver, caller.trace_id, "compute")
        assert batch_of(receiver, compute).links == [one(receiver, caller.trace_id).link]


# -- batches and ensembles ---------------------------------------------------------------------------------------------


def test_the_span_of_a_batch_links_to_its_members_and_they_to_it(server: ServerProcess, receiver: Receiver) -> None:
    callers = [new_caller() for _ in range(3)]
    with ThreadPoolExecutor(4) as clients:
        asked = [
            clients.submit(ask, server, "POST", path_of("four"), rest_body(row(number)), caller.headers)
            for number, caller in enumerate(callers[:2])
        ]
        asked.append(clients.submit(over_grpc_once, server, callers[2], "four"))
        # A member that nobody traces.
        asked.append(clients.submit(ask, server, "POST", path_of("four"), rest_body(row(9))))
        for each in asked:
            each.result(SOON_S)
    requests = [one(receiver, caller.trace_id) for caller in callers]
    computes = [one(receiver, caller.trace_id, "compute") for caller in callers]
    batch = batch_of(receiver, computes[0])
    assert {tuple(compute.links) for compute in computes} == {(batch.link,)}
    assert sorted(batch.links, key=str) == sorted([request.link for request in requests], key=str)
    assert batch.trace_id not in {caller.trace_id for caller in callers}
    assert (batch.parent_id, batch.attributes["ortolan.batch.rows"]) == ("", 4)
    assert batch.attributes["ortolan.batch.traced_requests"] == 3
    assert {compute.attributes["ortolan.batch.rows"] for compute in computes} == {4}


def over_grpc_once(server: ServerProcess, caller: Caller, model: str) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        channel.unary_unary(METHOD)(grpc_request(model, row(5)), SOON_S, metadata=caller.metadata)


def test_the_steps_of_an_ensemble_are_spans_below_it(
    server: ServerProcess, receiver: Receiver, caller: Caller, door: str
) -> None:
    assert DOORS[door](server, caller.headers, row(1), "both", "")[0]
    request = one(receiver, caller.trace_id)
    (both,) = receiver.below(request, "both")
    ((inner,), (last,)) = (receiver.below(both, name) for name in ("inner", "m"))
    first, second = receiver.below(inner, "m")
    assert first.end_ns <= second.start_ns <= last.start_ns
    for step in (first, second, last):
        (compute,) = receiver.below(step, "compute")
        assert batch_of(receiver, compute).links == [request.link]
    assert not [*receiver.below(both, "compute"), *receiver.below(inner, "queue")]


# -- settings ----------------------------------------------------------------------------------------------------------


def change(server: ServerProcess, settings: dict[str, Any], model: str = "") -> Any:
    path = f"/v2/models/{model}/trace/setting" if model else "/v2/trace/setting"
    reply = ask(server, "POST", path, settings)
    assert reply.status == 200, reply.body
    return reply.json


@pytest.fixture
def settings(server: ServerProcess) -> Iterator[None]:
    """What is changed of them is as it was afterwards."""
    yield
    for model in ("m", ""):
        change(server, dict.fromkeys(["trace_level", "trace_rate", "trace_count"]), model)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_endpoint_drives_who_is_chosen(server: ServerProcess, receiver: Receiver, protocol: str) -> None:
    told = change(server, {"trace_rate": "3", "trace_count": "2"}, "m")
    assert (told["trace_mode"], told["trace_rate"], told["trace_count"]) == ("opentelemetry", "3", "2")
    ids = [f"{protocol}{number}" for number in range(1, 13)]
    if protocol == "http":
        # All of one form, so that those that are not chosen go a way on which nothing is traced.
        with httpx.Client(base_url=f"http://{server.http}", timeout=SOON_S) as client:
            headers = [client.post(path_of("m"), content=rest_body(row(3))).headers for _ in ids]
        chosen = [number for number, each in enumerate(headers, 1) if "traceresponse" in each]
    else:
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            assert client.get_trace_settings("m").settings["trace_mode"].value == ["opentelemetry"]
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary(METHOD)
            done = [call.with_call(grpc_request("m", row(3)), SOON_S)[1] for _ in ids]
        chosen = [n for n, each in enumerate(done, 1) if "traceresponse" in dict(each.trailing_metadata())]
    assert chosen == [3, 6]
    assert ask(server, "GET", "/v2/models/m/trace/setting").json["trace_count"] == "0"
    # Whom the caller traces is traced all the same.
    assert over_grpc(server, new_caller().headers, row(1), "m", "")[1]


@pytest.mark.usefixtures("settings")
def test_where_it_is_off_nobody_is_traced(server: ServerProcess, caller: Caller) -> None:
    change(server, {"trace_level": ["OFF"]}, "m")
    assert over_http1(server, caller.headers, row(1), "m", "") == (True, None)
    assert over_http1(server, caller.headers, row(1), "kept", "")[1]
    change(server, {"trace_level": ["OFF"]})
    assert over_http1(server, caller.headers, row(1), "kept", "") == (True, None)


@pytest.mark.usefixtures("settings")
def test_tensors_are_events(server: ServerProcess, receiver: Receiver, caller: Caller) -> None:
    change(server, {"trace_level": ["TENSORS"]}, "m")
    assert over_http1(server, caller.headers, row(2), "m", "")[0]
    model = one(receiver, caller.trace_id, "m")
    events = {name: attributes for name, _, attributes in model.events}
    assert events["TENSOR_QUEUE_INPUT"] == {
        "tensor.name": "x",
        "tensor.dtype": "FP32",
        "tensor.shape": "1,4",
        "tensor.data": "2.0,2.0,2.0,2.0",
    }
    assert events["TENSOR_BACKEND_OUTPUT"]["tensor.data"] == "4.0,4.0,4.0,4.0"


# -- receivers, and the end --------------------------------------------------------------------------------------------


def test_a_receiver_that_is_down_costs_spans_and_one_line(repository: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}/v1/traces?key=secret"
        config = ("rate=1", f"opentelemetry,url={url}", "opentelemetry,bsp_schedule_delay=1")
        environment = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret,broken secret", "OTEL_EXPORTER_OTLP_TIMEOUT": "3"}
        arguments = (*OPENTELEMETRY, *(f"--trace-config={each}" for each in config), "--trace-config=count=1000")
        log = tmp_path / "log"
        with running(repository, *ONLY_M, *arguments, "--log-verbose=2", log=log, environment=environment) as server:
            for number in range(20):
                assert ask(server, "POST", path_of("m"), rest_body(row(number))).status == 200
            eventually(lambda: "did not reach" in log.read_text())
            begin_s = time.monotonic()
            server.process.terminate()
            assert server.process.wait(SOON_S) == 0
            took_s = time.monotonic() - begin_s
    text = log.read_text()
    assert took_s < 15
    assert len([line for line in text.splitlines() if "did not reach" in line]) <= 2
    assert f"did not reach http://127.0.0.1:{taken_port(url)}/v1/traces (Connection refused)" in text
    assert "secret" not in text
    assert "opentelemetry" not in text


def taken_port(url: str) -> str:
    return url.split("127.0.0.1:")[1].split("/")[0]


def test_each_replica_sends_what_it_has_at_the_end_as_an_instance_of_its_own(repository: Path, tmp_path: Path) -> None:
    with grpc_receiver() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=se%20cret",
            "OTEL_SERVICE_NAME": "fleet",
            "OTEL_RESOURCE_ATTRIBUTES": "k=v",
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",
        }
        arguments = (*OPENTELEMETRY, "--trace-config=rate=1", "--trace-config=opentelemetry,resource=k=w")
        replicas = ("--processes=2", "--grpc-transport=grpcio")
        log = tmp_path / "log"
        with running(repository, *ONLY_M, *arguments, *replicas, log=log, environment=environment) as server:
            instances: set[str] = set()
            told: list[str | None] = []
            for _ in range(40):
                with grpc.insecure_channel(server.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                    _, call = channel.unary_unary(METHOD).with_call(grpc_request("m", row(1)), SOON_S)
                    told.append(dict(call.trailing_metadata()).get("traceresponse"))
            assert over_grpc(server, {}, np.zeros((1, 5), np.float32), "m", "")[1]
            assert not receiver.spans
        requests = receiver.named("InferRequest")
        instances = {str(span.resource["service.instance.id"]) for span in requests}
        assert (len(requests), len(instances)) == (41, 2)
        assert set(told) <= {f"00-{span.trace_id}-{span.span_id}-03" for span in requests}
        assert len(receiver.named("batch")) == 40
        assert (requests[0].resource["service.name"], requests[0].resource["k"]) == ("fleet", "w")
        assert receiver.headers["api-key"] == "se cret"
        assert "cret" not in log.read_text()


# -- the start ---------------------------------------------------------------------------------------------------------


def test_nothing_of_it_is_imported_before_it_is_asked_for_and_who_has_not_installed_it_is_told_how(
    tmp_path: Path,
) -> None:
    text = (
        "import sys, ortolan.cli, ortolan.server, ortolan.trace_options as options\n"
        "from ortolan.settings import Settings\n"
        "def tracing(*config): return options.tracing_of(Settings(model_repository=('x',), trace_config=config))\n"
        "assert not tracing('level=TIMESTAMPS', 'rate=1').on\n"
        # FastAPI brings the interface, behind which nothing is without these.
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])\n"
        "tracing('mode=opentelemetry')"
    )
    # A package that hides the installed one.
    hidden = tmp_path / "opentelemetry" / "sdk" / "__init__.py"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("raise ImportError")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": paths}
    shown = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, env=environment)
    assert (shown.stdout.strip(), shown.returncode) == ("[]", 1), shown.stderr
    assert "StartupError: --trace-config mode=opentelemetry needs" in shown.stderr
    assert "pip install 'ortolan[otel]'" in shown.stderr
