"""The same inference through every door, each with a real client: what is asked, and what comes of it."""

import asyncio
import http.client
import json
import queue
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from callers import LONGEST_S
from conformance.exchange import NUMPY, Answered, Asked, Named, Refused
from server_process import ServerProcess
from tritonclient.utils import InferenceServerException


class Transport(AbstractContextManager["Transport"]):
    """One way to ask; used in a ``with`` block."""

    statuses: Mapping[str, str]
    """What this transport says for a wrong request, and for a model that is not there."""
    binary = True
    """Whether elements travel as their bytes."""
    final_parameter = False
    """Whether each answer says that it is the last for its request."""

    @abstractmethod
    def ask(self, asked: Asked) -> Answered:
        """Raises Refused when the server answers with an error."""


HTTP = {"wrong": "400", "unknown": "404"}
GRPC = {"wrong": "StatusCode.INVALID_ARGUMENT", "unknown": "StatusCode.NOT_FOUND"}
STREAM = {"wrong": "", "unknown": ""}


# -- JSON, with no library at all --------------------------------------------------------------------------------------


class HttpJson(Transport):
    """JSON both ways with the standard library, which writes and reads NaN and infinities as Triton does."""

    statuses = HTTP
    binary = False

    def __init__(self, server: ServerProcess) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=LONGEST_S)

    def ask(self, asked: Asked) -> Answered:
        version = f"/versions/{asked.version}" if asked.version else ""
        self._connection.request("POST", f"/v2/models/{asked.model}{version}/infer", json.dumps(_document(asked)))
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise Refused(str(response.status), answer["error"])
        outputs = tuple(Named(each["name"], each["datatype"], _array_of(each)) for each in answer["outputs"])
        return Answered(
            answer["model_name"], answer["model_version"], answer.get("id", ""), outputs, answer.get("parameters", {})
        )

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _document(asked: Asked) -> dict[str, Any]:
    document: dict[str, Any] = {"inputs": [_json_tensor(tensor) for tensor in asked.inputs]}
    if asked.id:
        document["id"] = asked.id
    if asked.parameters:
        document["parameters"] = dict(asked.parameters)
    if asked.outputs:
        document["outputs"] = [
            {"name": wanted.name} | ({"parameters": {"classification": wanted.classes}} if wanted.classes else {})
            for wanted in asked.outputs
        ]
    return document


def _json_tensor(tensor: Named) -> dict[str, Any]:
    flat = tensor.array.ravel()
    data = [element.decode() for element in flat] if tensor.datatype == "BYTES" else flat.tolist()
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.array.shape, "data": data}


def _array_of(output: Mapping[str, Any]) -> np.ndarray:
    data = output["data"]
    if output["datatype"] == "BYTES":
        data = [text.encode() for text in data]
    return np.array(data, NUMPY[output["datatype"]]).reshape(output["shape"])


# -- tritonclient ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forms:
    """tritonclient's classes for requests over one protocol, and the forms that tensors have there."""

    module: Any
    form: Mapping[str, bool] = field(default_factory=dict)

    def inputs(self, asked: Asked) -> list[Any]:
        made = []
        for tensor in asked.inputs:
            given = self.module.InferInput(tensor.name, list(tensor.array.shape), tensor.datatype)
            given.set_data_from_numpy(tensor.array, **self.form)
            made.append(given)
        return made

    def outputs(self, asked: Asked) -> list[Any] | None:
        wanted = [
            self.module.InferRequestedOutput(each.name, class_count=each.classes, **self.form) for each in asked.outputs
        ]
        return wanted or None

    def arguments(self, asked: Asked) -> dict[str, Any]:
        return {
            "model_name": asked.model,
            "inputs": self.inputs(asked),
            "outputs": self.outputs(asked),
            "model_version": asked.version,
            "request_id": asked.id,
            "parameters": dict(asked.parameters) or None,
        }


def _answered_http(result: Any) -> Answered:
    answer = result.get_response()
    outputs = tuple(
        Named(each["name"], each["datatype"], _bytes_as_bytes(result.as_numpy(each["name"])))
        for each in answer["outputs"]
    )
    return Answered(
        answer["model_name"], answer["model_version"], answer.get("id", ""), outputs, answer.get("parameters", {})
    )


def _bytes_as_bytes(array: np.ndarray) -> np.ndarray:
    """tritonclient gives texts from JSON as ``str``."""
    if array.dtype != np.object_:
        return array
    elements = [element.encode() if isinstance(element, str) else element for element in array.ravel()]
    return np.array(elements, np.object_).reshape(array.shape)


def _answered_grpc(result: Any) -> Answered:
    answer = result.get_response()
    outputs = tuple(Named(each.name, each.datatype, result.as_numpy(each.name)) for each in answer.outputs)
    parameters = {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in answer.parameters.items()}
    return Answered(answer.model_name, answer.model_version, answer.id, outputs, parameters)


def _refused(error: InferenceServerException) -> Refused:
    return Refused(str(error.status() or ""), str(error.message()))


class TritonHttp(Transport):
    """tritonclient.http; without outputs of its own it asks for all of them as bytes, unless the form is JSON."""

    statuses = HTTP

    def __init__(self, server: ServerProcess, binary: bool = True) -> None:
        self.binary = binary
        self._forms = Forms(tritonclient.http, {"binary_data": binary})
        self._client = tritonclient.http.InferenceServerClient(server.http, network_timeout=LONGEST_S)

    def ask(self, asked: Asked) -> Answered:
        try:
            return _answered_http(self._client.infer(**self._forms.arguments(asked)))
        except InferenceServerException as error:
            raise _refused(error) from error

    def __exit__(self, *_: object) -> None:
        self._client.close()


class TritonGrpc(Transport):
    """tritonclient.grpc, one call for each inference."""

    statuses = GRPC

    def __init__(self, server: ServerProcess) -> None:
        self._forms = Forms(tritonclient.grpc)
        self._client = tritonclient.grpc.InferenceServerClient(server.grpc)

    def ask(self, asked: Asked) -> Answered:
        try:
            return _answered_grpc(self._client.infer(**self._forms.arguments(asked), client_timeout=LONGEST_S))
        except InferenceServerException as error:
            raise _refused(error) from error

    def __exit__(self, *_: object) -> None:
        self._client.close()


class TritonStream(Transport):
    """tritonclient.grpc, every inference on one stream."""

    statuses = STREAM
    final_parameter = True

    def __init__(self, server: ServerProcess) -> None:
        self._forms = Forms(tritonclient.grpc)
        self._client = tritonclient.grpc.InferenceServerClient(server.grpc)
        self._answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __enter__(self) -> "TritonStream":
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))
        return self

    def ask(self, asked: Asked) -> Answered:
        self._client.async_stream_infer(**self._forms.arguments(asked), enable_empty_final_response=True)
        result, error = self._answers.get(timeout=LONGEST_S)
        if error is not None:
            raise _refused(error)
        return _answered_grpc(result)

    def __exit__(self, *_: object) -> None:
        self._client.stop_stream()
        self._client.close()


class _Asyncio(Transport):
    """A transport whose client lives on a loop of its own."""

    def __init__(self, client: Callable[[], Any], forms: Forms) -> None:
        self._runner = asyncio.Runner()
        self._make_client = client
        self._forms = forms

    def __enter__(self) -> "_Asyncio":
        self._client: Any = self._runner.run(self._made())
        return self

    async def _made(self) -> Any:
        return self._make_client()

    def ask(self, asked: Asked) -> Answered:
        try:
            return self._runner.run(self._ask(asked))
        except InferenceServerException as error:
            raise _refused(error) from error

    @abstractmethod
    async def _ask(self, asked: Asked) -> Answered: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


class TritonHttpAsyncio(_Asyncio):
    """tritonclient.http.aio."""

    statuses = HTTP

    def __init__(self, server: ServerProcess) -> None:
        module = tritonclient.http.aio
        super().__init__(lambda: module.InferenceServerClient(server.http), Forms(module))

    async def _ask(self, asked: Asked) -> Answered:
        return _answered_http(await self._client.infer(**self._forms.arguments(asked)))


class TritonGrpcAsyncio(_Asyncio):
    """tritonclient.grpc.aio, one call for each inference."""

    statuses = GRPC

    def __init__(self, server: ServerProcess) -> None:
        module = tritonclient.grpc.aio
        super().__init__(lambda: module.InferenceServerClient(server.grpc), Forms(module))

    async def _ask(self, asked: Asked) -> Answered:
        return _answered_grpc(await self._client.infer(**self._forms.arguments(asked), client_timeout=LONGEST_S))


class TritonStreamAsyncio(TritonGrpcAsyncio):
    """tritonclient.grpc.aio, a stream for each inference."""

    statuses = STREAM
    final_parameter = True

    async def _ask(self, asked: Asked) -> Answered:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield self._forms.arguments(asked)

        answers = [answer async for answer in self._client.stream_infer(requests(), stream_timeout=LONGEST_S)]
        ((result, error),) = answers
        if error is not None:
            raise error
        return _answered_grpc(result)


TRANSPORTS: Mapping[str, Callable[[ServerProcess], Transport]] = {
    "http-json": HttpJson,
    "http-json-tritonclient": partial(TritonHttp, binary=False),
    "http-binary": TritonHttp,
    "http-aio": TritonHttpAsyncio,
    "grpc": TritonGrpc,
    "grpc-aio": TritonGrpcAsyncio,
    "grpc-stream": TritonStream,
    "grpc-stream-aio": TritonStreamAsyncio,
}


def cases(datatypes: Sequence[str]) -> list[tuple[str, str]]:
    """Each transport with each of the datatypes, but for BF16 as JSON by tritonclient, which refuses to write that."""
    pairs = [(transport, datatype) for datatype in datatypes for transport in TRANSPORTS]
    return [pair for pair in pairs if pair != ("http-json-tritonclient", "BF16")]
