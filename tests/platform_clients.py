"""Clients that ask a container as hosting platforms do: by their own routes, with their own headers and no others."""

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
from callers import Reply, ask
from server_process import ServerProcess

SAGEMAKER_BINARY = "application/vnd.sagemaker-triton.binary+json"
VERTEX_BINARY = "application/vnd.vertex-ai-triton.binary+json"


class SageMaker:
    """The part of SageMaker that stands before a container."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    def ping(self) -> Reply:
        return ask(self._server, "GET", "/ping")

    def invoke(
        self, body: object, content_type: str = "application/json", model: str = "", headers: Mapping[str, str] = {}
    ) -> Reply:
        """``model`` is an endpoint's of many; what it is called in its storage comes along."""
        sent = {
            "Content-Type": content_type,
            "Accept": "application/json",
            "X-Amzn-SageMaker-Custom-Attributes": "c000b4f9-df62-4c85-a0bf-7c525f9104a4",
            "X-Amzn-SageMaker-Inference-Id": "7",
            **({"X-Amzn-SageMaker-Target-Model": "digits/model.tar.gz"} if model else {}),
            **headers,
        }
        path = f"/models/{quote(model, safe='')}/invoke" if model else "/invocations"
        return ask(self._server, "POST", path, body, sent)

    def load(self, model: str, url: object, headers: Mapping[str, str] = {}) -> Reply:
        document = {"model_name": model, "url": str(url)}
        return ask(self._server, "POST", "/models", document, {"Content-Type": "application/json", **headers})

    def unload(self, model: str, headers: Mapping[str, str] = {}) -> Reply:
        return ask(self._server, "DELETE", f"/models/{quote(model, safe='')}", None, headers)

    def model(self, model: str, headers: Mapping[str, str] = {}) -> Reply:
        return ask(self._server, "GET", f"/models/{quote(model, safe='')}", None, headers)

    def models(self) -> list[dict[str, str]]:
        """All of them, page by page."""
        found: list[dict[str, str]] = []
        token = ""
        while True:
            reply = ask(self._server, "GET", f"/models?next_page_token={quote(token, safe='')}" if token else "/models")
            assert reply.status == 200, reply.body
            found += reply.json["models"]
            token = reply.json.get("nextPageToken", "")
            if not token:
                return found


class VertexAi:
    """The part of Vertex AI that stands before a container: two paths that both were told."""

    def __init__(self, server: ServerProcess, predict_route: str, health_route: str) -> None:
        self._server = server
        self._predict_route = predict_route
        self._health_route = health_route

    def health(self) -> Reply:
        return ask(self._server, "GET", self._health_route)

    def predict(self, instances: object, parameters: object = None) -> Reply:
        body = {"instances": instances, **({"parameters": parameters} if parameters is not None else {})}
        return self.raw_predict(body)

    def raw_predict(
        self, body: object, content_type: str = "application/json", redirect: str = "", headers: Mapping[str, str] = {}
    ) -> Reply:
        leads = {"X-Vertex-Ai-Triton-Redirect": redirect} if redirect else {}
        sent = {"Content-Type": content_type, **leads, **headers}
        return ask(self._server, "POST", self._predict_route, body, sent)


def tensor(array: np.ndarray, name: str = "x") -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}


def json_request(array: np.ndarray) -> dict[str, Any]:
    return {"inputs": [tensor(array)]}


def binary_request(array: np.ndarray, name: str = "x") -> tuple[bytes, int]:
    """A body whose tensor stands behind its JSON, and how long that is."""
    described = {"name": name, "shape": list(array.shape), "datatype": "FP32"}
    described["parameters"] = {"binary_data_size": array.nbytes}
    text = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    return text + array.tobytes(), len(text)


def binary_output(reply: Reply, binary_type: str) -> np.ndarray:
    """The only output of an answer in a platform's type, which says how long the JSON is."""
    media_type, _, parameter = reply.headers["content-type"].partition(";")
    assert media_type == binary_type, reply.headers
    name, _, length = parameter.partition("=")
    assert name == "json-header-size"
    (output,) = json.loads(reply.body[: int(length)])["outputs"]
    data = np.frombuffer(reply.body[int(length) :], np.float32)
    assert data.size == math.prod(output["shape"])
    return data.reshape(output["shape"])
