"""--model-signature: nothing is served that a trusted signer did not sign, wherever it comes from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ensembles
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import ask, rest_body
from file_servers import FileServer, serving
from server_process import ServerProcess, finished, running
from signed_models import make_certificates, make_key, sign, sign_with_certificate
from tritonclient.utils import InferenceServerException

pytest.importorskip("model_signing")

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")
PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path)


@pytest.fixture
def root(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """A repository with a signed model that adds 1."""
    onnx_models.save_version(tmp_path / "repository", "m", onnx_models.adder(1), config="max_batch_size: 8\n")
    sign(tmp_path / "repository" / "m", keys[0])
    return tmp_path / "repository"


@pytest.fixture
def require(keys: tuple[Path, Path]) -> tuple[str, ...]:
    return ("--model-signature=require", f"--model-signature-key={keys[1]}")


@pytest.fixture
def server(root: Path, require: tuple[str, ...]) -> Iterator[ServerProcess]:
    with running(root, *require, *EXPLICIT) as started:
        yield started


@pytest.fixture(params=MODULES)
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Any]:
    url = server.http if request.param == "http" else server.grpc
    with MODULES[str(request.param)].InferenceServerClient(url) as client:
        yield client


def added(server: ServerProcess, model: str = "m", name: str = "x") -> float:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(np.zeros((1, 4), np.float32), name))
    assert reply.status == 200, reply.body
    return float(reply.array[0, 0])


def test_a_signed_model_is_served_and_an_altered_one_is_not(root: Path, server: ServerProcess, client: Any) -> None:
    assert added(server) == 1
    onnx_models.save_version(root, "m", onnx_models.adder(2))
    with pytest.raises(InferenceServerException, match=r"'1/model.onnx' is not what was signed"):
        client.load_model("m")
    assert added(server) == 1


def test_an_altered_model_keeps_the_server_from_starting(root: Path, require: tuple[str, ...]) -> None:
    config = root / "m" / "config.pbtxt"
    config.write_text("max_batch_size: 9\n")
    ended = finished("serve", root, *require, *PORTS)
    assert ended.returncode == 1
    assert "'config.pbtxt' is not what was signed" in ended.stderr


def test_what_clients_send_is_not_signed(server: ServerProcess, client: Any) -> None:
    evil = onnx_models.adder(666).SerializeToString()
    for model in ("m", "new"):
        with pytest.raises(InferenceServerException, match="is not signed"):
            client.load_model(model, config="{}", files={"file:1/model.onnx": evil})
    with pytest.raises(InferenceServerException, match="a configuration that comes with a load is not signed"):
        client.load_model("m", config='{"max_batch_size": 2}')
    assert added(server) == 1


def test_unsigned_models_are_refused_or_let_be(root: Path, keys: tuple[Path, Path]) -> None:
    onnx_models.save_version(root, "unsigned", onnx_models.adder(3))
    signer = f"--model-signature-key={keys[1]}"
    ended = finished("models", root, "--model-signature=require", signer)
    assert ended.returncode == 1
    assert "model 'unsigned' is not signed" in ended.stdout + ended.stderr
    with running(root, "--model-signature=check", signer) as server:
        assert (added(server), added(server, "unsigned")) == (1, 3)


def test_ensembles_are_verified_like_other_models(
    root: Path, keys: tuple[Path, Path], require: tuple[str, ...]
) -> None:
    directory = ensembles.save_like_a_model(root, "twice", "m", "m")
    (directory / "1" / ".keep").touch()
    sign(directory, keys[0])
    with running(root, *require, *EXPLICIT) as server:
        assert added(server, "twice") == 2
        ensembles.save_like_a_model(root, "twice", "m", "m", "m")
        refused = ask(server, "POST", "/v2/repository/models/twice/load", {})
        assert refused.status == 400
        assert "'config.pbtxt' is not what was signed" in refused.json["error"]
        assert added(server, "twice") == 2


def test_a_manifest_speaks_for_an_ensembles_configuration_too(root: Path) -> None:
    directory = ensembles.save_like_a_model(root, "twice", "m", "m")
    digest = hashlib.sha256((directory / "config.pbtxt").read_bytes()).hexdigest()
    (directory / "SHA256SUMS").write_text(f"{digest}  config.pbtxt\n")
    assert finished("models", root).returncode == 0
    ensembles.save_like_a_model(root, "twice", "m", "m", "m")
    ended = finished("models", root)
    assert ended.returncode == 1
    assert "'config.pbtxt' is not what its SHA256SUMS says" in ended.stdout + ended.stderr


def test_a_loose_model_has_its_signature_beside_it(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    file = tmp_path / "loose" / "plus.onnx"
    file.parent.mkdir()
    file.write_bytes(onnx_models.adder(4).SerializeToString())
    sign(file, keys[0])
    with running(file, "--model-signature=require", f"--model-signature-key={keys[1]}") as server:
        assert added(server, "plus") == 4


def test_certificates_work_as_well(root: Path, tmp_path: Path) -> None:
    private, certificate, authority = make_certificates(tmp_path)
    sign_with_certificate(root / "m", private, certificate, authority)
    with running(root, "--model-signature=require", f"--model-signature-certificate={authority}") as server:
        assert added(server) == 1


def test_models_from_elsewhere_are_verified_too(root: Path, tmp_path: Path, require: tuple[str, ...]) -> None:
    """Who can write the store can write its list of hashes, too."""
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with serving(FileServer()) as web:
        arguments = (f"{web.url}/repo/", *require, f"--download-directory={tmp_path / 'mirrors'}")
        put(web.files, files)
        with running(*arguments) as server:
            assert added(server) == 1
        put(web.files, files | {"m/1/model.onnx": onnx_models.adder(666).SerializeToString()})
        ended = finished("models", *arguments)
    assert ended.returncode == 1
    assert "'1/model.onnx' is not what was signed" in ended.stdout + ended.stderr


def put(served: dict[str, bytes], files: dict[str, bytes]) -> None:
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    served.update({f"/repo/{name}": content for name, content in files.items()})
    served["/repo/SHA256SUMS"] = sums.encode()


def test_the_start_fails_where_nothing_could_be_verified(root: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    ended = finished("serve", root, "--model-signature=require", *PORTS)
    assert (ended.returncode, "needs to know who may sign" in ended.stderr) == (2, True)
    ended = finished("serve", root, f"--model-signature-key={keys[1]}", *PORTS)
    assert (ended.returncode, "signers of models are named" in ended.stderr) == (2, True)
    # As if the package were not installed.
    (tmp_path / "model_signing.py").touch()
    path = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2] / 'server'}"}
    arguments = ("--model-signature=require", f"--model-signature-key={keys[1]}", *PORTS)
    ended = finished("serve", root, *arguments, environment=path)
    assert (ended.returncode, 'pip install "ortolan[signing]"' in ended.stderr) == (2, True)
