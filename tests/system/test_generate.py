"""The generate extension over HTTP: flat JSON in, flat JSON or an event out."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from callers import Reply, ask, failures, get, row
from server_process import ServerProcess, eventually

IRIS: dict[str, Any] = {"features": [6.7, 3.1, 4.4, 1.4]}
DIGIT = json.loads((Path(__file__).parents[2] / "examples" / "digit.json").read_text())


def events(reply: Reply) -> list[str]:
    """The data of each event, read as the standard of server-sent events has it."""
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    found: list[str] = []
    data: list[str] = []
    for line in reply.body.decode().splitlines():
        name, _, value = line.partition(":")
        if not line and data:
            found.append("\n".join(data))
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))
    assert not data, "the last event has no blank line after it, so that clients drop it"
    return found


def error(reply: Reply) -> str:
    assert reply.headers["content-type"] == "application/json"
    assert [*reply.json] == ["error"]
    return str(reply.json["error"])


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_text_goes_in_and_text_comes_out(model_repo_server: ServerProcess, version: str) -> None:
    reply = ask(model_repo_server, "POST", f"/v2/models/language{version}/generate", {"text": "def area(radius):"})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    probabilities = reply.json.pop("probabilities")
    assert {key: value for key, value in reply.json.items() if key != "probabilities"} == {
        "model_name": "language",
        "model_version": "1",
        "label": "python",
    }
    assert len(probabilities) == 3
    assert sum(probabilities) == pytest.approx(1)
    assert set(reply.timing) == {"queue", "batch", "compute", "encode"}


def test_the_answer_is_that_of_infer(model_repo_server: ServerProcess) -> None:
    pixels = np.array(DIGIT, np.float32)
    infer = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": pixels.ravel().tolist()}]}
    wanted = ask(model_repo_server, "POST", "/v2/models/digits/infer", infer).array.ravel().tolist()
    for form in (pixels.ravel().tolist(), pixels.tolist()):
        reply = ask(model_repo_server, "POST", "/v2/models/digits/generate", {"image": form, "id": "a three"})
        assert (reply.status, reply.json["id"], reply.json["probabilities"]) == (200, "a three", wanted)


def test_several_rows_of_values_are_several_rows(model_repo_server: ServerProcess) -> None:
    body = {"features": IRIS["features"] + [5.1, 3.5, 1.4, 0.2]}
    reply = ask(model_repo_server, "POST", "/v2/models/iris/generate", body)
    assert reply.json["output_label"] == ["versicolor", "setosa"]
    assert len(reply.json["output_probability"]) == 6


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_a_stream_is_one_event_with_the_same_answer(model_repo_server: ServerProcess, version: str) -> None:
    path = f"/v2/models/iris{version}/generate"
    whole = ask(model_repo_server, "POST", path, {**IRIS, "id": "7"})
    streamed = ask(model_repo_server, "POST", path + "_stream", {**IRIS, "id": "7"}, {"Accept": "text/event-stream"})
    assert streamed.status == 200
    assert [json.loads(data) for data in events(streamed)] == [whole.json]
    assert whole.json["output_label"] == "versicolor"


def test_parameters_reach_the_scheduler_from_either_place(model_repo_server: ServerProcess) -> None:
    for body in ({**IRIS, "priority": "high"}, {**IRIS, "parameters": {"priority": "high"}}):
        reply = ask(model_repo_server, "POST", "/v2/models/iris/generate", body)
        assert (reply.status, "'priority'" in error(reply)) == (400, True)
    assert ask(model_repo_server, "POST", "/v2/models/iris/generate", {**IRIS, "temperature": 0.1}).status == 200


@pytest.mark.parametrize("tail", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("iris", b"", 400, "got an empty body"),
        ("iris", b"{", 400, "failed to parse"),
        ("iris", b"[" * 100_000, 400, "nested too deep"),
        ("iris", {}, 400, "expected 1 inputs but got 0 inputs for model 'iris'"),
        ("iris", {"features": [1, 2, 3]}, 400, "The schema can not convert input 'features' to tensor"),
        ("iris", {"features": [1, 2, 3, "long"]}, 400, "must be a number, because the datatype is FP32"),
        ("iris", {"features": [0] * 20}, 400, "batch-size must be <= 4"),
        ("iris", {"features": [[1, 2], [3]]}, 400, "ragged"),
        ("iris", {**IRIS, "parameters": IRIS}, 400, "already exists in request"),
        ("iris", {**IRIS, "triton_x": 1}, 400, "reserved"),
        ("iris", {**IRIS, "other": [1]}, 400, "'other' is no input of model 'iris'"),
        ("iris", {**IRIS, "id": 7}, 400, "'id'"),
        ("nope", IRIS, 404, "'nope' is not found"),
        ("iris/versions/9", IRIS, 404, "version 9 is not found"),
        ("iris/versions/x", IRIS, 400, "whole number"),
    ],
)
def test_a_bad_request_is_an_ordinary_error_also_of_a_stream(
    model_repo_server: ServerProcess, tail: str, path: str, body: object, status: int, said: str
) -> None:
    reply = ask(model_repo_server, "POST", f"/v2/models/{path}/{tail}", body)
    assert (reply.status, said in error(reply)) == (status, True), reply.body


@pytest.mark.parametrize("tail", ["generate", "generate_stream"])
def test_a_failure_of_the_model_is_an_ordinary_error_too(small_models_server: ServerProcess, tail: str) -> None:
    reply = ask(small_models_server, "POST", f"/v2/models/gather/{tail}", {"x": 99})
    assert reply.status >= 400
    assert error(reply)


@pytest.mark.parametrize("tail", ["generate", "generate_stream"])
def test_only_post_is_allowed(model_repo_server: ServerProcess, tail: str) -> None:
    reply = ask(model_repo_server, "GET", f"/v2/models/iris/{tail}")
    assert (reply.status, reply.headers["allow"], error(reply)) == (
        405,
        "POST",
        "Method Not Allowed: this path expects POST",
    )


def test_bodies_may_be_compressed_both_ways(small_models_server: ServerProcess) -> None:
    numbers = list(range(1000))
    sent = gzip.compress(json.dumps({"x": numbers}).encode())
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    whole = ask(small_models_server, "POST", "/v2/models/large/generate", sent, headers)
    streamed = ask(small_models_server, "POST", "/v2/models/large/generate_stream", sent, headers)
    assert whole.headers["content-encoding"] == streamed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(whole.body))["y"] == numbers
    plain = Reply(streamed.status, streamed.headers, gzip.decompress(streamed.body))
    assert json.loads(events(plain)[0])["y"] == numbers
    refused = ask(small_models_server, "POST", "/v2/models/large/generate", sent, {"Content-Encoding": "br"})
    assert (refused.status, "br" in error(refused)) == (415, True)


@pytest.mark.parametrize("tail", ["generate", "generate_stream"])
def test_a_deadline_that_passes_is_told(small_models_server: ServerProcess, tail: str) -> None:
    body = {"x": row().ravel().tolist()}
    reply = ask(small_models_server, "POST", f"/v2/models/slower/{tail}", body, {"X-Request-Timeout": "0.001"})
    assert (reply.status, "deadline" in error(reply)) == (504, True)


async def test_who_hangs_up_is_not_computed_for(small_models_server: ServerProcess) -> None:
    before = failures(small_models_server, "slower").get("CANCELED", 0)
    body = json.dumps({"x": row().ravel().tolist()}).encode()
    head = f"POST /v2/models/slower/generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", small_models_server.http_port)
    writer.write(head.encode() + body)
    await writer.drain()
    writer.close()
    await asyncio.to_thread(
        eventually, lambda: failures(small_models_server, "slower").get("CANCELED", 0) == before + 1
    )


@pytest.mark.parametrize("tail", ["/generate", "/generate_stream"])
@pytest.mark.parametrize("version", ["", "/versions/{model_version}"])
def test_the_documented_example_is_answered_as_it_stands(
    model_repo_server: ServerProcess, version: str, tail: str
) -> None:
    path = f"/v2/models/{{model_name}}{version}{tail}"
    operation = get(model_repo_server, "/openapi.json")["paths"][path]["post"]
    for parameter in (each for each in operation["parameters"] if each["in"] == "path"):
        path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    example = operation["requestBody"]["content"]["application/json"]["example"]
    reply = ask(model_repo_server, "POST", path, example)
    assert reply.status == 200
    assert reply.headers["content-type"].partition(";")[0] in operation["responses"]["200"]["content"]
    assert [*operation["responses"]["200"]["content"]] == [
        "text/event-stream" if "stream" in tail else "application/json"
    ]
    assert {*operation["responses"]} == {"200", "400", "404", "415", "500", "503", "504"}
