"""Bad HTTP payloads, row by row: each is refused with its reason, on a connection that goes on, by a server that lives.

The rows are numbered as in our list of bad input; 25 to 58 are those of HTTP payloads.
"""

import gzip
import re
from collections.abc import Iterator
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
from conformance.bad_http_payloads import CASES, INFER, LIMIT, MIB, Case, X, asking, text, to
from conformance.memory import peak_growth_bytes
from conformance.served import Served
from conformance.wire import HEADER_LENGTH, Grpc, Http
from server_process import ServerProcess, eventually


@pytest.fixture
def http(bad_input: Served) -> Iterator[Http]:
    http = Http(bad_input.server)
    yield http
    http.close()


@pytest.fixture
def roomy(conformance_server: ServerProcess) -> Iterator[Http]:
    """A connection to the server that takes as much as servers do by default."""
    http = Http(conformance_server)
    yield http
    http.close()


def assert_usable(http: Http, kept: object) -> None:
    """The connection of before, and no new one, gets a good answer."""
    assert http.infer("batched", {"inputs": [X]}).json["outputs"][0]["data"] == X["data"]
    assert http.socket is kept is not None


def assert_no_secrets(error: str) -> None:
    assert not re.search(r"Traceback|\.py\b|\.onnx|/tmp|/dev/shm|site-packages|object at 0x", error), error


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_payload_is_refused_with_its_reason(http: Http, case: Case) -> None:
    http.get("/v2/health/live")
    kept = http.socket
    reply = http.post(case.path, case.body, case.headers)
    assert (reply.status, reply.headers["content-type"]) == (case.status, "application/json"), reply.body
    assert [*reply.json] == ["error"]
    assert case.said in reply.json["error"]
    assert len(reply.json["error"]) < 2000
    assert_no_secrets(reply.json["error"])
    assert_usable(http, kept)


def test_row_25_a_body_in_chunks_is_counted_as_it_comes(http: Http) -> None:
    http.get("/v2/health/live")
    kept = http.socket
    reply = http.post(INFER, iter([b" " * (LIMIT // 4)] * 8))
    assert reply.status == 400
    assert f"maximum allowed input size of {LIMIT} bytes. Use --http-max-input-size" in reply.json["error"]
    assert_usable(http, kept)


def test_row_26_a_bomb_takes_no_more_memory_than_the_limit(http: Http, bad_input: Served) -> None:
    bomb = gzip.compress(bytes(128 * MIB), 9)
    assert len(bomb) < LIMIT

    def explode() -> None:
        assert http.post(INFER, bomb, {"Content-Encoding": "gzip"}).status == 400

    assert peak_growth_bytes(bad_input.server, explode) < 16 * LIMIT


def test_row_33_an_answer_with_nan_is_json_to_those_who_know_the_tokens(http: Http) -> None:
    """As in Triton; for readers that do not know them there is the binary form."""
    body = text("FP32", "[NaN,Infinity,-Infinity]", "[1,3]")
    assert b'"data":[NaN,Infinity,-Infinity]' in http.post(to("FP32"), body).body
    head = body[:-1] + b',"parameters":{"binary_data_output":true}}'
    reply = http.post(to("FP32"), head)
    size = int(reply.headers[HEADER_LENGTH.lower()])
    assert (
        np.frombuffer(reply.body[size:], np.float32).tobytes() == np.array([np.nan, np.inf, -np.inf], "<f4").tobytes()
    )


def test_row_38_of_duplicate_keys_the_last_counts(http: Http) -> None:
    body = asking(id="kept")[:-1] + b',"id":"last"}'
    assert http.post(INFER, body).json["id"] == "last"


@pytest.mark.parametrize("element", [b"1,", b'"a",', b"{},", b"[[]],"])
def test_row_41_json_takes_a_bounded_multiple_of_its_size(http: Http, bad_input: Served, element: bytes) -> None:
    """Each value becomes an object: 13 times its size for numbers, 40 for what is no tensor at all."""
    elements = element * ((LIMIT - 100) // len(element))
    body = text("FP32", "?").replace(b"?", b"[" + elements.rstrip(b",") + b"]")

    def send() -> None:
        assert http.post(to("FP32"), body).status == 400

    send()
    assert peak_growth_bytes(bad_input.server, send) < 50 * LIMIT


def test_row_48_a_nul_is_a_character_like_others(http: Http) -> None:
    elements = http.post(to("BYTES"), text("BYTES", r'["a\u0000b","\u0000"]', "[1,2]")).json["outputs"][0]["data"]
    assert elements == ["a\0b", "\0"]


def test_row_51_a_million_outputs_are_counted_and_refused(roomy: Http) -> None:
    body = asking()[:-1] + b',"outputs":[' + b",".join([b'{"name":"y"}'] * 1_000_000) + b"]}"
    reply = roomy.post(INFER, body)
    assert (reply.status, reply.json["error"]) == (400, "the request lists 1000000 outputs, at most 4096 are accepted")
    assert_usable(roomy, roomy.socket)


def test_row_54_more_than_a_million_elements_have_no_classes(roomy: Http) -> None:
    data = bytes(4 * 1_000_001)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1_000_001], "parameters": {"binary_data_size": len(data)}}
    for count in (1, 2**31, 2**63 - 1):
        wanted = {"name": "y", "parameters": {"classification": count}}
        reply = roomy.infer("vector", {"inputs": [tensor], "outputs": [wanted]}, data)
        assert reply.status == 400
        assert "output 'y' has 1000001 elements, and at most 1000000 can be classified" in reply.json["error"]
    assert_usable(roomy, roomy.socket)


HOSTILE = "\x1b[2J\x1b[31m\r\nforged line \u2028 \x9b \x00"


def test_row_56_a_name_cannot_write_into_the_log(http: Http, bad_input: Served) -> None:
    for path in (f"/v2/models/{quote(HOSTILE)}", f"/v2/models/{quote(HOSTILE)}/infer"):
        reply = http.ask("GET" if path.endswith(quote(HOSTILE)) else "POST", path, asking())
        assert (reply.status, reply.json["error"][:10]) == (404, "Not Found:")
    # The fixture looks for what is raw.
    assert HOSTILE not in bad_input.log.read_text()


def test_row_57_an_id_cannot_write_into_messages_or_the_log(http: Http, bad_input: Served) -> None:
    """Wherever the id is not the client's own echo, its control characters are escaped and it is cut."""
    reply = http.post(INFER, asking(id=HOSTILE, outputs=[{"name": "nope"}]))
    assert reply.status == 400
    shown = r"[request id: \x1b[2J\x1b[31m\r\nforged line \u2028 \x9b \x00] unexpected inference output 'nope'"
    assert reply.json["error"].startswith(shown)
    assert eventually(lambda: shown in bad_input.log.read_text())
    assert http.post(INFER, asking(id=HOSTILE)).json["id"] == HOSTILE
    reply = http.post(INFER, asking(id="x" * 1024, outputs=[{"name": "nope"}]))
    assert reply.json["error"].startswith(f"[request id: {'x' * 128}...] unexpected")


def series(server: ServerProcess) -> set[str]:
    with urlopen(f"http://{server.metrics}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_row_58_unknown_models_leave_nothing_behind(http: Http, bad_input: Served) -> None:
    before = series(bad_input.server)
    grpc = Grpc(bad_input.server)
    for index in range(2000):
        assert http.post(f"/v2/models/unknown_{index}/infer", asking()).status == 404
        request = grpc.request("ModelInfer", model_name=f"unknown_too_{index}")
        assert grpc.refusal("ModelInfer", request)[0] == "NOT_FOUND"
    grpc.close()
    assert series(bad_input.server) == before


def test_every_row_has_a_test() -> None:
    own = {int(row) for row in re.findall(r"test_row_(\d+)", " ".join(globals()))}
    assert {case.row for case in CASES} | own == set(range(25, 59))
