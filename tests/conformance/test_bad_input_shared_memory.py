"""Bad use of shared memory, row by row: refused, nothing written, and no key in the answer.

The rows are numbered as in our list of bad input; 81 to 85 are these.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conformance.both_frontends import Asker, assert_answers
from conformance.served import Served
from server_process import ServerProcess
from shared_objects import SharedObject, needs_linux, shared_object

INFER_INPUT: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 4]}


@pytest.fixture
def asker(bad_input: Served) -> Iterator[Asker]:
    asker = Asker(bad_input.server)
    yield asker
    asker.close()


@pytest.fixture
def sharing(conformance_server: ServerProcess) -> Iterator[Asker]:
    """The server that lets its clients use shared memory."""
    asker = Asker(conformance_server)
    yield asker
    asker.close()


LARGEST = 2**64 - 1


def register(asker: Asker, key: str, offset: int, size: int) -> list[tuple[int, str]]:
    """The refusals of both frontends."""
    body = json.dumps({"key": key, "offset": offset, "byte_size": size})
    return [
        asker.post("/v2/systemsharedmemory/region/r/register", body),
        asker.call("SystemSharedMemoryRegister", name="r", key=key, offset=offset, byte_size=size),
    ]


@needs_linux
@pytest.mark.parametrize(
    "key", ["", "/", "///", ".", "..", "/a/b", "../etc/passwd", "/../etc/passwd", "a\0b", "x" * 256]
)
def test_row_81_a_key_that_is_no_name_is_refused(sharing: Asker, key: str) -> None:
    for status, error in register(sharing, key, 0, 4):
        assert (status, "the key must" in error) == (400, True), error
    assert_answers(sharing)


@needs_linux
def test_row_81_keys_of_others_are_refused(sharing: Asker) -> None:
    for key in ("triton_python_backend_shm_region_1", "/triton_python_backend_shm_region_1", "sem.mine"):
        for status, error in register(sharing, key, 0, 4):
            assert (status, "reserved" in error) == (400, True), error


@pytest.fixture
def shared() -> Iterator[SharedObject]:
    with shared_object(64, bytes(range(64))) as shared:
        yield shared


@needs_linux
@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 65), (64, 1), (1, 64), (65, 0), (0, 0), (2**63, 4), (LARGEST - 3, 8), (4, LARGEST), (LARGEST, LARGEST)],
)
def test_row_82_bytes_that_the_object_does_not_have_are_refused(
    sharing: Asker, shared: SharedObject, offset: int, size: int
) -> None:
    for status, error in register(sharing, shared.key, offset, size):
        assert (status, error.startswith("failed to register shared memory region 'r': invalid args")) == (400, True), (
            error
        )
        assert shared.key.strip("/") not in error
    assert_answers(sharing)


@pytest.fixture
def region(sharing: Asker, shared: SharedObject) -> Iterator[SharedObject]:
    """An object of 64 bytes, registered as ``held``."""
    body = json.dumps({"key": shared.key, "byte_size": 64})
    assert sharing.post("/v2/systemsharedmemory/region/held/register", body) == (200, "")
    yield shared
    assert sharing.post("/v2/systemsharedmemory/region/held/unregister") == (200, "")


def place(offset: int, size: int, name: str = "held") -> dict[str, Any]:
    return {"shared_memory_region": name, "shared_memory_offset": offset, "shared_memory_byte_size": size}


def infer_shared(asker: Asker, side: str, where: dict[str, Any]) -> list[tuple[int, str]]:
    """The refusals, by both frontends, of an inference whose input or output is there."""
    typed = {key: {"string_param" if isinstance(v, str) else "uint64_param": v} for key, v in where.items()}
    parameters: dict[str, Any] = {"inputs": [{**INFER_INPUT, "parameters": where}]}
    message: dict[str, Any] = {"inputs": [{**INFER_INPUT, "parameters": typed}]}
    if side == "output":
        parameters = {"inputs": [{**INFER_INPUT, "data": [1] * 4}], "outputs": [{"name": "y", "parameters": where}]}
        contents = {"fp32_contents": [1] * 4}
        message = {"inputs": [{**INFER_INPUT, "contents": contents}], "outputs": [{"name": "y", "parameters": typed}]}
    return [
        asker.post("/v2/models/batched/infer", json.dumps(parameters)),
        asker.call("ModelInfer", model_name="batched", **message),
    ]


@needs_linux
@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize(
    ("offset", "size", "said"),
    [
        (64, 16, "Invalid offset for shared memory region: 'held'"),
        (2**64 - 32, 16, "Invalid offset for shared memory region: 'held'"),
        (2**64 - 32, 2**64 - 32, "Invalid offset for shared memory region: 'held'"),
        (49, 16, "Invalid offset + byte size for shared memory region: 'held'"),
        (0, 2**64 - 32, "Invalid offset + byte size for shared memory region: 'held'"),
        (32, 2**64 - 16, "Invalid offset + byte size for shared memory region: 'held'"),
    ],
)
def test_row_83_a_place_that_overflows_is_refused(
    sharing: Asker, region: SharedObject, side: str, offset: int, size: int, said: str
) -> None:
    for status, error in infer_shared(sharing, side, place(offset, size)):
        assert (status, error.startswith(said)) == (400, True), error
    assert region.read() == bytes(range(64))
    assert_answers(sharing)


@needs_linux
def test_row_84_no_answer_names_a_key(sharing: Asker, region: SharedObject) -> None:
    absent = "ortolan_test_absent"
    for status, error in register(sharing, absent, 0, 4):
        assert (status, error.startswith("Unable to open shared memory region: 'r'")) == (400, True), error
        assert absent not in error
    body = json.dumps({"key": region.key, "byte_size": 4})
    taken = sharing.post("/v2/systemsharedmemory/region/held/register", body)
    assert taken == (400, "shared memory region 'held' already in manager")
    for where in (place(0, 15), place(0, 8)):
        for status, error in infer_shared(sharing, "output", where) + infer_shared(sharing, "input", where):
            assert (status, region.key.strip("/") in error) == (400, False), error
    for status, error in infer_shared(sharing, "input", place(0, 16, "nobody")):
        assert (status, error) == (404, "Unable to find shared memory region: 'nobody'")
    # The status is for the client that registered it, and has the key.
    assert sharing.http.get("/v2/systemsharedmemory/region/held/status").json[0]["key"] == region.key


def test_row_85_where_shared_memory_is_off_it_says_how_to_turn_it_on(asker: Asker) -> None:
    said = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
    answers = [
        *register(asker, "/any", 0, 4),
        asker.post("/v2/systemsharedmemory/region/r/unregister"),
        asker.post("/v2/systemsharedmemory/unregister"),
        asker.call("SystemSharedMemoryUnregister", name="r"),
        asker.call("CudaSharedMemoryUnregister", name="r"),
        *infer_shared(asker, "input", place(0, 16)),
        *infer_shared(asker, "output", place(0, 16)),
    ]
    assert answers == [(501, said)] * len(answers)
    assert asker.http.get("/v2/systemsharedmemory/status").json == []
    assert_answers(asker)
