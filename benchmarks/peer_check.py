"""A peer's answers beside ONNX Runtime's own: every model in every form, from many clients at once, of 1 to 8 rows.

    python benchmarks/peer_check.py HTTP,GRPC

Alone a request's answer must be the same to the bit. Among others it may have been part of a batch, in which ONNX
Runtime may add in another order: then within 1e-4. It also prints the resident memory before and after, where the peer
is on this machine.
"""

import argparse
import http.client
import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grid_models
import numpy as np
import onnxruntime
import tritonclient.grpc
import tritonclient.http

from ortolan.bench.load import Form
from ortolan.bench.process_usage import listeners

Ask = Callable[[str, str, np.ndarray], np.ndarray]
TOLERANCE = 1e-4
DISTINCT = 64
ALONE = 8
_DATATYPES = {"float32": "FP32", "int64": "INT64"}


class Clients(threading.local):
    """A client of each protocol for each thread: theirs may not be shared."""

    def __init__(self, http_address: str, grpc_address: str) -> None:
        host, _, port = http_address.rpartition(":")
        self.plain = http.client.HTTPConnection(host, int(port), timeout=60)
        self.http = tritonclient.http.InferenceServerClient(http_address, network_timeout=60)
        self.grpc = tritonclient.grpc.InferenceServerClient(grpc_address)

    def asking(self, form: Form) -> Ask:
        return {Form.BINARY: self.binary, Form.JSON: self.by_json, Form.GRPC: self.by_grpc}[form]

    def binary(self, model: str, name: str, array: np.ndarray) -> np.ndarray:
        return self._by(self.http, tritonclient.http, model, name, array)

    def by_grpc(self, model: str, name: str, array: np.ndarray) -> np.ndarray:
        return self._by(self.grpc, tritonclient.grpc, model, name, array)

    def by_json(self, model: str, name: str, array: np.ndarray) -> np.ndarray:
        tensor = {"name": name, "datatype": _DATATYPES[array.dtype.name], "shape": array.shape}
        body = json.dumps({"inputs": [{**tensor, "data": array.ravel().tolist()}]})
        self.plain.request("POST", f"/v2/models/{model}/infer", body)
        answer = self.plain.getresponse()
        said = json.loads(answer.read())
        assert answer.status == 200, said
        output = said["outputs"][0]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    @staticmethod
    def _by(client: object, module: object, model: str, name: str, array: np.ndarray) -> np.ndarray:
        tensor = module.InferInput(name, array.shape, _DATATYPES[array.dtype.name])
        tensor.set_data_from_numpy(array)
        return client.infer(model, [tensor]).as_numpy("y")


def inputs(model: str, rows: int, draw: np.random.Generator) -> np.ndarray:
    if model == "transformer":
        return draw.integers(0, 1000, (rows, 128), dtype=np.int64)
    shape = {"tiny": (16,), "mlp": (784,), "convnet": (3, 224, 224)}[model]
    return draw.standard_normal((rows, *shape), dtype=np.float32)


def is_right(clients: Clients, form: Form, model: str, requests: int, workers: int) -> bool:
    """Whether ``model``'s answers in ``form`` are those of ONNX Runtime, alone and from ``workers`` clients at once."""
    draw = np.random.default_rng(7)
    each = [inputs(model, int(rows), draw) for rows in draw.integers(1, 9, min(requests, DISTINCT))]
    session = session_of(model)
    alone = furthest(clients.asking(form), session, model, each[:ALONE], 1)
    together = furthest(clients.asking(form), session, model, each * max(1, requests // len(each)), workers)
    print(f"{model:12} {form.title:12} alone {alone:.1e}   together {together:.1e}", flush=True)
    return alone == 0 and together <= TOLERANCE


def session_of(model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        return onnxruntime.InferenceSession(grid_models.write(Path(folder), model), options)


def furthest(
    ask: Ask, session: onnxruntime.InferenceSession, model: str, each: Sequence[np.ndarray], workers: int
) -> float:
    """The largest difference of any answer from ONNX Runtime's, over requests from ``workers`` threads."""
    name = session.get_inputs()[0].name

    def difference(array: np.ndarray) -> float:
        right = session.run(None, {name: array})[0]
        answer = ask(model, name, array)
        assert answer.shape == right.shape, (answer.shape, right.shape)
        return float(np.max(np.abs(answer - right)))

    with ThreadPoolExecutor(workers) as pool:
        return max(pool.map(difference, each))


def resident_mib(address: str) -> float:
    pages = [
        int(line.split()[1])
        for pid in listeners([int(address.rpartition(":")[2])])
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
    return sum(pages) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("addresses", metavar="HTTP,GRPC")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=200, help="of each model and form")
    parser.add_argument("--models", default=",".join(grid_models.MODELS))
    parser.add_argument("--forms", default=",".join(form.value for form in Form))
    given = parser.parse_args()
    http_address, grpc_address = given.addresses.split(",")
    clients = Clients(http_address, grpc_address)
    forms = [Form(each) for each in given.forms.split(",")]
    print(f"resident {resident_mib(http_address):.1f} MiB")
    right = [
        is_right(clients, form, model, given.requests, given.clients)
        for model in given.models.split(",")
        for form in forms
    ]
    print(f"resident {resident_mib(http_address):.1f} MiB")
    return 0 if all(right) else 1


if __name__ == "__main__":
    raise SystemExit(main())
