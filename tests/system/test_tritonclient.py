"""NVIDIA's tritonclient, unmodified, over HTTP and over gRPC: the same questions, the same answers."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from server_process import ServerProcess
from tritonclient.utils import InferenceServerException

from ortolan import __version__
from ortolan.inference.datatypes import DATATYPES
from ortolan.protocol import protobuf_messages as messages

# A three, as examples/digit.json has it.
DIGIT = np.array(
    [
        [0, 0, 9, 16, 10, 1, 0, 0],
        [0, 0, 8, 3, 16, 4, 0, 0],
        [0, 0, 0, 5, 14, 2, 0, 0],
        [0, 0, 2, 16, 15, 7, 0, 0],
        [0, 0, 0, 0, 3, 15, 2, 0],
        [0, 4, 6, 0, 0, 13, 7, 0],
        [0, 6, 13, 1, 5, 16, 3, 0],
        [0, 0, 10, 16, 15, 5, 0, 0],
    ],
    np.float32,
).reshape(1, 1, 8, 8)
WINE = np.array([[12.88, 2.99, 2.4, 20, 104, 1.3, 1.22, 0.24, 0.83, 5.4, 0.74, 1.42, 530]], np.float32)
IRIS = np.array([[6.7, 3.1, 4.4, 1.4]], np.float32)


@dataclass(frozen=True)
class Protocol:
    """tritonclient's module for one protocol, and what differs in the calls that both have."""

    module: Any
    as_json: dict[str, bool]

    def client(self, server: ServerProcess) -> Any:
        return self.module.InferenceServerClient(server.http if self.is_http else server.grpc)

    @property
    def is_http(self) -> bool:
        return self.module is tritonclient.http

    def tensor(self, name: str, datatype: str, array: np.ndarray) -> Any:
        tensor = self.module.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor


PROTOCOLS = {
    "http": Protocol(tritonclient.http, {}),
    "grpc": Protocol(tritonclient.grpc, {"as_json": True}),
}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return PROTOCOLS[request.param]


@pytest.fixture
def client(protocol: Protocol, model_repo_server: ServerProcess) -> Iterator[Any]:
    """A client of the server of the example models."""
    with protocol.client(model_repo_server) as client:
        yield client


@pytest.fixture
def small_models(protocol: Protocol, small_models_server: ServerProcess) -> Iterator[Any]:
    """A client of the server of the tests' own models."""
    with protocol.client(small_models_server) as client:
        yield client


def test_the_server_and_its_models_are_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("wine", "2")
    assert not client.is_model_ready("wine", "3")
    assert not client.is_model_ready("nope")


def test_the_servers_metadata_names_it_and_its_extensions(client: Any, protocol: Protocol) -> None:
    metadata = client.get_server_metadata(**protocol.as_json)
    assert (metadata["name"], metadata["version"]) == ("ortolan", __version__)
    assert {"binary_tensor_data", "model_repository", "model_configuration", "statistics"} <= {*metadata["extensions"]}


def test_a_models_metadata_shows_its_versions_and_tensors(client: Any, protocol: Protocol) -> None:
    digits = client.get_model_metadata("digits", **protocol.as_json)
    assert (digits["name"], digits["versions"], digits["platform"]) == ("digits", ["1"], "onnxruntime_onnx")
    (image,), (probabilities,) = digits["inputs"], digits["outputs"]
    assert (image["name"], image["datatype"], [*map(int, image["shape"])]) == ("image", "FP32", [-1, 1, 8, 8])
    assert (probabilities["datatype"], [*map(int, probabilities["shape"])]) == ("FP32", [-1, 10])
    assert client.get_model_metadata("wine", **protocol.as_json)["versions"] == ["1", "2"]
    assert client.get_model_metadata("wine", "2", **protocol.as_json)["versions"] == ["2"]


def test_a_models_configuration_is_complete(client: Any, protocol: Protocol) -> None:
    config = client.get_model_config("iris", **protocol.as_json)
    config = config if protocol.is_http else config["config"]
    assert config["name"] == "iris"
    assert config["max_batch_size"] == 4
    assert [(given["name"], given["data_type"], [*map(int, given["dims"])]) for given in config["input"]] == [
        ("features", "TYPE_FP32", [4])
    ]
    assert {given["name"] for given in config["output"]} == {"output_label", "output_probability"}
    assert "dynamic_batching" in config


def test_statistics_count_what_was_inferred(client: Any, protocol: Protocol) -> None:
    def counts() -> tuple[int, int]:
        (version,) = client.get_inference_statistics("iris", "1", **protocol.as_json)["model_stats"]
        assert (version["name"], version["version"]) == ("iris", "1")
        success = version["inference_stats"]["success"]
        return int(version.get("inference_count", 0)), int(success.get("count", 0))

    rows, requests = counts()
    client.infer("iris", [protocol.tensor("features", "FP32", np.repeat(IRIS, 3, axis=0))])
    assert counts() == (rows + 3, requests + 1)


def test_statistics_of_all_models_list_every_version(client: Any, protocol: Protocol) -> None:
    models = client.get_inference_statistics(**protocol.as_json)["model_stats"]
    assert [(model["name"], model["version"]) for model in models] == [
        ("digits", "1"),
        ("iris", "1"),
        ("language", "1"),
        ("wine", "1"),
        ("wine", "2"),
    ]


def test_the_repository_index_lists_every_version_with_its_state(client: Any, protocol: Protocol) -> None:
    index = client.get_model_repository_index(**protocol.as_json)
    models = index if protocol.is_http else index["models"]
    assert [(model["name"], model["version"], model["state"]) for model in models] == [
        ("digits", "1", "READY"),
        ("iris", "1", "READY"),
        ("language", "1", "READY"),
        ("wine", "1", "READY"),
        ("wine", "2", "READY"),
    ]


def test_all_outputs_come_when_none_is_chosen(client: Any, protocol: Protocol) -> None:
    result = client.infer("iris", [protocol.tensor("features", "FP32", IRIS)])
    assert result.as_numpy("output_label").tolist() == [[b"versicolor"]]
    assert result.as_numpy("output_probability").shape == (1, 3)


def test_only_the_chosen_outputs_come(client: Any, protocol: Protocol) -> None:
    wanted = [protocol.module.InferRequestedOutput("output_label")]
    result = client.infer("iris", [protocol.tensor("features", "FP32", IRIS)], outputs=wanted)
    assert result.as_numpy("output_label").tolist() == [[b"versicolor"]]
    assert result.as_numpy("output_probability") is None


def test_classes_come_largest_first_with_their_labels(client: Any, protocol: Protocol) -> None:
    wanted = [protocol.module.InferRequestedOutput("probabilities", class_count=2)]
    result = client.infer("digits", [protocol.tensor("image", "FP32", DIGIT)], outputs=wanted)
    classes = result.as_numpy("probabilities")
    assert classes.shape == (1, 2)
    first, second = (text.decode().split(":") for text in classes[0])
    assert (first[1:], float(first[0]) > 0.99) == (["3", "three"], True)
    assert float(second[0]) < float(first[0])


def test_the_requests_id_comes_back(client: Any, protocol: Protocol) -> None:
    result = client.infer("iris", [protocol.tensor("features", "FP32", IRIS)], request_id="order 66")
    response = result.get_response(**protocol.as_json)
    assert (response["id"], response["model_name"], response["model_version"]) == ("order 66", "iris", "1")


@pytest.mark.parametrize(("asked", "answered"), [("1", "1"), ("2", "2"), ("", "2")])
def test_a_version_can_be_asked_and_the_newest_answers_otherwise(
    client: Any, protocol: Protocol, asked: str, answered: str
) -> None:
    result = client.infer("wine", [protocol.tensor("features", "FP32", WINE)], model_version=asked)
    assert result.get_response(**protocol.as_json)["model_version"] == answered
    assert result.as_numpy("label").tolist() == [[2]]


VALUES = {
    "BOOL": np.array([[True, False, False, True]]),
    "UINT8": np.array([[0, 1, 254, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 2, 2**16 - 1]], np.uint16),
    "UINT32": np.array([[0, 1, 2, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 1, 2, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, -1, 0, 127]], np.int8),
    "INT16": np.array([[-(2**15), -1, 0, 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), -1, 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), -1, 0, 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -65504, np.inf, np.nan]], np.float16),
    "FP32": np.array([[0.1, -0.0, -np.inf, np.nan]], np.float32),
    "FP64": np.array([[0.1, 1e308, np.inf, np.nan]]),
    "BYTES": np.array([[b"plain", "größer".encode(), b"", b"nul\0 \xff\xfe\x80"]], np.object_),
}


@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype_comes_back_bit_for_bit(small_models: Any, protocol: Protocol, datatype: str) -> None:
    sent = VALUES[datatype]
    result = small_models.infer(f"identity_{datatype.lower()}", [protocol.tensor("x", datatype, sent)])
    came = result.as_numpy("y")
    assert (came.shape, came.dtype) == (sent.shape, sent.dtype)
    assert came.tobytes() == sent.tobytes() if datatype != "BYTES" else came.tolist() == sent.tolist()


# tritonclient takes BF16 as ml_dtypes' type or as float32, depending on its version; what it sends are these bits.
BF16 = np.array([[0x3F00, 0xC000, 0x7F80, 0x7FC1]], np.uint16).tobytes()


def test_bf16_comes_back_bit_for_bit_over_http(small_models_server: ServerProcess) -> None:
    tensor = {"name": "x", "datatype": "BF16", "shape": [1, 4], "parameters": {"binary_data_size": len(BF16)}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    url = f"http://{small_models_server.http}/v2/models/identity_bf16/infer"
    request = urllib.request.Request(url, header + BF16, {"Inference-Header-Content-Length": str(len(header))})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
        body, size = response.read(), int(response.headers["Inference-Header-Content-Length"])
    assert json.loads(body[:size])["outputs"][0]["datatype"] == "BF16"
    assert body[size:] == BF16


def test_bf16_comes_back_bit_for_bit_over_grpc(small_models_server: ServerProcess) -> None:
    request = messages.ModelInferRequest(model_name="identity_bf16", raw_input_contents=[BF16])
    request.inputs.add(name="x", datatype="BF16", shape=[1, 4])
    with grpc.insecure_channel(small_models_server.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        response = messages.ModelInferResponse.FromString(infer(request.SerializeToString(), timeout=10))
    assert response.outputs[0].datatype == "BF16"
    assert [*response.raw_output_contents] == [BF16]


def test_every_datatype_is_tried() -> None:
    assert {*VALUES, "BF16"} == {datatype.name for datatype in DATATYPES}


def test_six_megabytes_come_back_unchanged(small_models: Any, protocol: Protocol) -> None:
    sent = np.random.default_rng(6).random((1, 6 * 2**20 // 4), np.float32)
    result = small_models.infer("large", [protocol.tensor("x", "FP32", sent)])
    assert np.array_equal(result.as_numpy("y"), sent)


@pytest.mark.parametrize(
    ("model", "tensor", "said"),
    [
        ("nope", ("features", "FP32", IRIS), "'nope' is not found"),
        ("iris", ("feature", "FP32", IRIS), "unexpected inference input 'feature'"),
        ("iris", ("features", "FP64", IRIS.astype(np.float64)), "expects 'FP32'"),
        ("iris", ("features", "FP32", WINE), "Expected [-1,4], got [1,13]"),
        ("iris", ("features", "FP32", np.repeat(IRIS, 5, axis=0)), "batch-size must be <= 4"),
    ],
)
def test_what_a_model_cannot_take_is_refused_with_the_reason(
    client: Any, protocol: Protocol, model: str, tensor: tuple[str, str, np.ndarray], said: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, [protocol.tensor(*tensor)])
    assert said in refused.value.message()


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_over_http_tensors_travel_as_json_as_well_as_binary(
    model_repo_server: ServerProcess, binary_in: bool, binary_out: bool
) -> None:
    tensor = tritonclient.http.InferInput("features", [1, 4], "FP32")
    tensor.set_data_from_numpy(IRIS, binary_data=binary_in)
    names = ("output_label", "output_probability")
    wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    with tritonclient.http.InferenceServerClient(model_repo_server.http) as client:
        result = client.infer("iris", [tensor], outputs=wanted)
    assert ("data" in result.get_output("output_label")) is not binary_out
    # Out of JSON, tritonclient makes str elements.
    assert result.as_numpy("output_label").tolist() == [[b"versicolor" if binary_out else "versicolor"]]
    assert result.as_numpy("output_probability").argmax() == 1


def test_over_http_text_in_json_may_be_any_unicode(small_models_server: ServerProcess) -> None:
    text = np.array([["größer", "日本", "\U0001f426", 'quote " and \\']], np.object_)
    tensor = tritonclient.http.InferInput("x", [1, 4], "BYTES")
    tensor.set_data_from_numpy(text, binary_data=False)
    wanted = [tritonclient.http.InferRequestedOutput("y", binary_data=False)]
    with tritonclient.http.InferenceServerClient(small_models_server.http) as client:
        assert client.infer("identity_bytes", [tensor], outputs=wanted).as_numpy("y").tolist() == text.tolist()
