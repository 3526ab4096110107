"""What of system shared memory is refused, through every door, and what a client finds that has been refused."""

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_models
import pytest
import tritonclient.utils.shared_memory as client_memory
from client_doors import DOORS, Client, Door, client_of, region, regions_of
from server_process import ServerProcess, running
from shared_objects import SharedObject, needs_linux

pytestmark = needs_linux

DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("shared_memory")
    onnx_models.save_version(root, "identity_fp32", onnx_models.identity())
    onnx_models.save_version(root, "wide", onnx_models.identity(shape=("rows", "columns")))
    with running(root, "--allow-client-shm=true") as started:
        yield started


REGISTRATIONS = [
    ("r", "KEY", 65, 0, 400, "failed to register shared memory region 'r': invalid args"),
    ("r", "KEY", 64, 1, 400, "failed to register shared memory region 'r': invalid args"),
    ("r", "KEY", 1, 64, 400, "failed to register shared memory region 'r': invalid args"),
    ("r", "KEY", 64, 2**64 - 32, 400, "failed to register shared memory region 'r': invalid args"),
    ("r", "KEY", 2**64 - 32, 64, 400, "failed to register shared memory region 'r': invalid args"),
    ("r", "KEY", 0, 0, 400, "failed to register shared memory region 'r': invalid args"),
    ("r", "/no_such_object_of_ortolan", 64, 0, 400, "Unable to open shared memory region: 'r'"),
    ("r", "/", 64, 0, 400, "the key must be one name"),
    ("r", "///", 64, 0, 400, "the key must be one name"),
    ("r", "/../shm/x", 64, 0, 400, "the key must be one name"),
    ("r", "triton_python_backend_shm_region_1", 64, 0, 400, "are reserved"),
    ("taken", "KEY", 64, 0, 400, "shared memory region 'taken' already in manager"),
]


async def test_what_cannot_be_registered_is_refused_without_a_word_of_the_key(
    server: ServerProcess, door: Door
) -> None:
    async with client_of(door, server) as client:
        with region(64) as (_, key):
            await client("register_system_shared_memory", "taken", key, 64)
            for name, wrong, size, offset, status, said in REGISTRATIONS:
                used = key if wrong == "KEY" else wrong
                refusal = await client.refusal(door, "register_system_shared_memory", name, used, size, offset=offset)
                assert refusal[0] == status, refusal
                assert said in refusal[1]
                assert not {key, key[1:], "no_such_object"} & set(refusal[1].split("'")), refusal
                assert key[1:] not in refusal[1]
            assert list(regions_of(await client("get_system_shared_memory_status"))) == ["taken"]


INFERENCES = [
    ({"region": "unknown"}, {}, 404, "Unable to find shared memory region: 'unknown'"),
    ({}, {"region": "unknown"}, 404, "Unable to find shared memory region: 'unknown'"),
    ({"offset": 64}, {}, 400, "Invalid offset for shared memory region: 'r'"),
    ({"offset": 33}, {}, 400, "Invalid offset + byte size for shared memory region: 'r'"),
    ({"offset": 2**63 - 32}, {}, 400, "Invalid offset for shared memory region: 'r'"),
    ({"size": 2**63 - 32, "offset": 32}, {}, 400, "Invalid offset + byte size for shared memory region: 'r'"),
    ({}, {"offset": 64}, 400, "Invalid offset for shared memory region: 'r'"),
    ({}, {"size": 65}, 400, "Invalid offset + byte size for shared memory region: 'r'"),
    ({"size": 31}, {}, 400, "input byte size mismatch for input 'x' for model 'identity_fp32'. Expected 32, got 31"),
    ({"shape": (2, 5)}, {}, 400, "unexpected shape for input 'x'"),
    ({"datatype": "FP64"}, {}, 400, "data-type is 'FP64'"),
    ({"datatype": "NOTHING"}, {}, 400, "unknown datatype"),
    (
        {},
        {"size": 31},
        400,
        "shared memory size specified with the request for output 'y' (31 bytes) should be at least 32 bytes to hold "
        "the results",
    ),
    ({}, {"size": 0}, 400, "(0 bytes) should be at least 32 bytes"),
    ({}, {"name": "z"}, 400, "unexpected inference output 'z'"),
]


async def test_what_does_not_fit_is_refused_and_nothing_is_written(server: ServerProcess, door: Door) -> None:
    async with client_of(door, server) as client:
        with region(64) as (handle, key):
            client_memory.set_shared_memory_region(handle, [np.tile(X, 2)])
            await client("register_system_shared_memory", "r", key, 64)
            before = bytes(client_memory.get_contents_as_numpy(handle, np.uint8, [64]))
            for given, wanted, status, said in INFERENCES:
                inputs = [door.input(**{"shape": (2, 4), "datatype": "FP32", "region": "r", "size": 32, **given})]
                outputs = [door.output(**{"region": "r", "size": 32, "offset": 0, **wanted})]
                refusal = await client.refusal(door, "infer", "identity_fp32", inputs, outputs=outputs)
                assert refusal[0] == status, refusal
                assert said in refusal[1]
                assert key[1:] not in refusal[1]
            assert bytes(client_memory.get_contents_as_numpy(handle, np.uint8, [64])) == before


async def test_an_inference_after_its_region_was_unregistered_is_refused(server: ServerProcess, door: Door) -> None:
    async with client_of(door, server) as client:
        with region(64) as (_, key):
            await client("register_system_shared_memory", "r", key, 64)
            asked = ([door.input((2, 4), "FP32", "r", 32)], [door.output("r", 32, 32)])
            await client("infer", "identity_fp32", asked[0], outputs=asked[1])
            await client("unregister_system_shared_memory", "r")
            refusal = await client.refusal(door, "infer", "identity_fp32", asked[0], outputs=asked[1])
            assert refusal == (404, "Unable to find shared memory region: 'r'")


async def test_a_client_that_truncates_its_object_harms_only_itself(server: ServerProcess, door: Door) -> None:
    async with client_of(door, server) as client:
        with region(64) as (_, key):
            await client("register_system_shared_memory", "r", key, 64)
            shared = SharedObject(key)
            shared.resize(16)
            asked = ([door.input((2, 4), "FP32", "r", 32)], [door.output("r", 32)])
            status, said = await client.refusal(door, "infer", "identity_fp32", asked[0], outputs=asked[1])
            assert (status, "shared memory region 'r' has become smaller" in said) == (400, True)
            sent = door.module.InferInput("x", [2, 4], "FP32")
            sent.set_data_from_numpy(X)
            status, said = await client.refusal(door, "infer", "identity_fp32", [sent], outputs=asked[1])
            assert (status, "shared memory region 'r' has become smaller" in said) == (400, True)
            assert shared.size == 16
            assert (await client("infer", "identity_fp32", [sent])).as_numpy("y").tolist() == X.tolist()


async def test_inputs_of_more_bytes_than_may_be_copied_are_refused(server: ServerProcess, door: Door) -> None:
    """An object may claim more bytes than the machine has memory."""
    size = 1 << 40
    async with client_of(door, server) as client:
        with region(64) as (_, key):
            SharedObject(key).resize(size)
            await client("register_system_shared_memory", "r", key, size)
            given = door.input((1, size // 4), "FP32", "r", size)
            status, said = await client.refusal(door, "infer", "wide", [given])
            assert (status, "Use --max-queue-bytes to increase the limit" in said) == (400, True)


async def test_without_leave_only_the_status_is_told(small_models_server: ServerProcess, door: Door) -> None:
    client = Client(door.client(small_models_server.http if door.protocol == "http" else small_models_server.grpc))
    try:
        assert regions_of(await client("get_system_shared_memory_status")) == {}
        assert regions_of(await client("get_cuda_shared_memory_status")) == {}
        handle = b"AAAA" if door.protocol == "grpc" else "AAAA"
        for method, arguments in (
            ("register_system_shared_memory", ("r", "/key", 64)),
            ("unregister_system_shared_memory", ()),
            ("unregister_system_shared_memory", ("r",)),
            ("register_cuda_shared_memory", ("r", handle, 0, 64)),
            ("unregister_cuda_shared_memory", ()),
        ):
            assert await client.refusal(door, method, *arguments) == (501, DISABLED)
        given = door.input((2, 4), "FP32", "r", 32)
        assert await client.refusal(door, "infer", "identity_fp32", [given]) == (501, DISABLED)
    finally:
        await client("close")


BODIES = [
    ("", "the request has no 'key'"),
    ("{", "failed to parse the request's JSON"),
    ("[]", "must be an object"),
    ('{"byte_size": 4}', "the request has no 'key'"),
    ('{"key": 7, "byte_size": 4}', "'key' of the request must be a string, got the number 7"),
    ('{"key": "/k"}', "the request has no 'byte_size'"),
    ('{"key": "/k", "byte_size": "4"}', "'byte_size' of the request must be an integer from 0"),
    ('{"key": "/k", "byte_size": 4.0}', "'byte_size' of the request must be an integer from 0"),
    ('{"key": "/k", "byte_size": true}', "'byte_size' of the request must be an integer from 0"),
    ('{"key": "/k", "byte_size": -4}', "'byte_size' of the request must be an integer from 0"),
    ('{"key": "/k", "byte_size": 18446744073709551616}', "'byte_size' of the request must be an integer from 0"),
    ('{"key": "/k", "byte_size": 4, "offset": null}', "'offset' of the request must be an integer from 0"),
    ('{"key": "/k", "byte_size": 4, "offset": -1}', "'offset' of the request must be an integer from 0"),
    ('{"key": "/a\\u0000b", "byte_size": 4}', "the key must be one name"),
]
CUDA_BODIES = [
    ("", "'raw_handle' has no 'b64'"),
    ('{"raw_handle": "AAAA"}', "'raw_handle' of the request must be an object"),
    ('{"raw_handle": {"b64": 7}}', "'b64' of 'raw_handle' must be a string"),
    ('{"raw_handle": {"b64": "A*"}}', "'b64' of 'raw_handle' must be base 64"),
    ('{"raw_handle": {"b64": "ä"}}', "'b64' of 'raw_handle' must be base 64"),
    ('{"raw_handle": {"b64": "AAAA"}}', "the request has no 'device_id'"),
    ('{"raw_handle": {"b64": "AAAA"}, "device_id": -1}', "'device_id' of the request must be an integer from 0"),
    ('{"raw_handle": {"b64": "AAAA"}, "device_id": 0}', "the request has no 'byte_size'"),
]


@pytest.mark.parametrize(
    ("kind", "body", "said"), [("system", *each) for each in BODIES] + [("cuda", *each) for each in CUDA_BODIES]
)
def test_a_body_that_registers_nothing_is_refused(server: ServerProcess, kind: str, body: str, said: str) -> None:
    status, answer = post(server, f"/v2/{kind}sharedmemory/region/r/register", body)
    assert (status, said in answer["error"]) == (400, True), answer


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"shared_memory_region": "r", "shared_memory_byte_size": 32, "shared_memory_offset": 2**64 - 32}, "offset"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 2**64 - 32, "shared_memory_offset": 32}, "byte size"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 2**64, "shared_memory_offset": 0}, "an integer from"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": -1}, "an integer from"),
    ],
)
def test_numbers_at_the_end_of_64_bits_do_not_wrap_around(
    server: ServerProcess, parameters: Mapping[str, Any], said: str
) -> None:
    with region(64) as (_, key):
        registered = json.dumps({"key": key, "byte_size": 64})
        assert post(server, "/v2/systemsharedmemory/region/r/register", registered)[0] == 200
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": parameters}
        sent = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [0] * 8}
        for request in (
            {"inputs": [tensor]},
            {"inputs": [sent], "outputs": [{"name": "y", "parameters": parameters}]},
        ):
            status, answer = post(server, "/v2/models/identity_fp32/infer", json.dumps(request))
            assert (status, said in answer["error"]) == (400, True), answer
        assert post(server, "/v2/systemsharedmemory/unregister", "")[0] == 200


def post(server: ServerProcess, path: str, body: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.http, timeout=20)
    try:
        connection.request("POST", path, body.encode())
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None
    finally:
        connection.close()
