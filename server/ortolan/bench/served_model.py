"""What a server says of one of its models, in the protocol's own words, so that any server of the protocol will do."""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ortolan.bench.load import Address
from ortolan.errors import StartupError
from ortolan.inference.datatypes import BY_NAME, Datatype

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input; sizes that may vary are -1."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """``max_batch_size``: 0 for a model that does not batch, None where the server does not tell."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[ModelInput, ...]
    platform: str
    max_batch_size: int | None

    @property
    def takes_rows(self) -> bool:
        """Whether a request may have several rows: by its configuration, or else by its shapes."""
        if self.max_batch_size is not None:
            return self.max_batch_size > 1
        return all(each.shape[:1] == (-1,) for each in self.inputs)


def only_model(address: Address, called: str) -> str:
    """The name of the one model that the server has ready. Raises StartupError where there are none or several.

    ``called``: what the person who asks calls the server, or what it serves.
    """
    status, index = _asked(address, "POST", "/v2/repository/index")
    ready = sorted({each["name"] for each in index if each.get("state") == "READY"}) if status == 200 else []
    if len(ready) == 1:
        return str(ready[0])
    if not ready:
        raise StartupError(f"{called} has no model that is ready")
    raise StartupError(f"{called} has several models; say which one with --model: {', '.join(ready)}")


def served_model(address: Address, name: str) -> ServedModel:
    """The model as the server at ``address`` describes it. Raises StartupError when it does not have it."""
    path = f"/v2/models/{quote(name, safe='')}"
    status, metadata = _asked(address, "GET", path)
    if status != 200:
        raise StartupError(f"{address} has no model '{name}' that is ready: {status} {_reason(metadata)}")
    configured, config = _asked(address, "GET", f"{path}/config")
    inputs = tuple(_input(name, each) for each in metadata["inputs"])
    return ServedModel(
        name,
        tuple(metadata.get("versions") or ()),
        inputs,
        str(metadata.get("platform", "")),
        int(config.get("max_batch_size", 0)) if configured == 200 and isinstance(config, Mapping) else None,
    )


def server_name(address: Address) -> str:
    """The server's name and version, as it calls itself."""
    status, metadata = _asked(address, "GET", "/v2")
    if status != 200 or not isinstance(metadata, Mapping):
        return "a server that does not say its name"
    return f"{metadata.get('name', '')} {metadata.get('version', '')}".strip()


def run_counts(address: Address, name: str) -> tuple[int, int]:
    """How many rows the model has computed so far, in how many runs; 0 and 0 where the server does not tell."""
    status, found = _asked(address, "GET", f"/v2/models/{quote(name, safe='')}/stats")
    if status != 200 or not isinstance(found, Mapping):
        return 0, 0
    versions: Sequence[Mapping[str, Any]] = found.get("model_stats", ())
    rows = sum(int(each.get("inference_count", 0)) for each in versions)
    return rows, sum(int(each.get("execution_count", 0)) for each in versions)


def _input(model: str, metadata: Mapping[str, Any]) -> ModelInput:
    datatype = BY_NAME.get(metadata["datatype"])
    if datatype is None:
        raise StartupError(f"input '{metadata['name']}' of '{model}' has the unknown datatype {metadata['datatype']}")
    return ModelInput(metadata["name"], datatype, tuple(int(size) for size in metadata["shape"]))


def _asked(address: Address, method: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, b"{}" if method == "POST" else None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise StartupError(f"no HTTP server answers at {address}: {error}") from None
    finally:
        connection.close()
    try:
        return response.status, json.loads(body)
    except ValueError:
        return response.status, None


def _reason(answer: Any) -> str:
    return str(answer.get("error", "")) if isinstance(answer, Mapping) else ""
