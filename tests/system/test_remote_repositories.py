"""Serving from where the models are not on this machine: S3, as moto's server speaks it, the web, and the Hub."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ensembles
import numpy as np
import object_stores
import onnx_models
import pytest
import tritonclient.http
from file_servers import FileServer, serving
from object_stores import Store
from server_process import ServerProcess, command, eventually, finished, running
from tritonclient.utils import InferenceServerException


def adder(number: float) -> bytes:
    return bytes(onnx_models.adder(number).SerializeToString())


@contextlib.contextmanager
def connected(server: ServerProcess) -> Iterator[Any]:
    with tritonclient.http.InferenceServerClient(server.http) as client:
        yield client


def added(client: Any, model: str) -> float:
    """What the model (an ``adder``) adds to 0."""
    tensor = tritonclient.http.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    return float(client.infer(model, [tensor]).as_numpy("y")[0, 0])


@pytest.fixture(scope="module")
def s3() -> Iterator[Store]:
    with object_stores.s3() as store:
        yield store


def bucket(store: Store, name: str, files: Mapping[str, bytes]) -> None:
    store.client.create_bucket(Bucket=name)
    for key, content in files.items():
        store.client.put_object(Bucket=name, Key=key, Body=content)


def test_a_bucket_is_followed_while_it_serves(s3: Store, tmp_path: Path) -> None:
    bucket(s3, "followed", {"repo/m/1/model.onnx": adder(1), "repo/other/1/model.onnx": adder(5)})
    arguments = (
        f"--model-repository=s3://{s3.host}/followed/repo", f"--download-directory={tmp_path / 'mirrors'}",
        "--model-control-mode=poll", "--repository-poll-secs=0.2", "--repository-quiet-secs=0",
    )  # fmt: skip
    log = tmp_path / "log"
    with running(*arguments, environment=s3.environment, log=log) as server, connected(server) as client:
        assert (added(client, "m"), added(client, "other")) == (1, 5)
        s3.client.put_object(Bucket="followed", Key="repo/m/2/model.onnx", Body=adder(2))
        eventually(lambda: added(client, "m") == 2)
        s3.client.put_object(Bucket="followed", Key="repo/m/2/model.onnx", Body=adder(3))
        eventually(lambda: added(client, "m") == 3)
        s3.client.delete_object(Bucket="followed", Key="repo/m/2/model.onnx")
        eventually(lambda: added(client, "m") == 1)
        s3.client.put_object(Bucket="followed", Key="repo/new/1/model.onnx", Body=adder(7))
        eventually(lambda: client.is_model_ready("new"))
        s3.client.delete_object(Bucket="followed", Key="repo/other/1/model.onnx")
        eventually(lambda: not client.is_model_ready("other"))
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in log.read_text()


def test_empty_objects_that_stand_for_directories_do_no_harm(s3: Store, tmp_path: Path) -> None:
    marked = ("lf/", "lf/z/", "lf/z/1/", "lf/z/2/", "lf/z/empty/", "lf/nothing/")
    bucket(s3, "marked", {"lf/z/1/model.onnx": adder(1), **dict.fromkeys(marked, b"")})
    for number, place in enumerate(("marked/lf", "marked/lf/z")):
        log = tmp_path / f"log{number}"
        arguments = (f"--model-repository=s3://{s3.host}/{place}", f"--download-directory={tmp_path / 'mirrors'}")
        with running(*arguments, environment=s3.environment, log=log) as server, connected(server) as client:
            assert added(client, "z") == 1
        assert not any(word in log.read_text() for word in ("empty", "error", "ERROR", "<?xml"))


@pytest.mark.parametrize("beside", ["ens/1/", "ens/1/.gitkeep", "ens/labels.txt"])
def test_an_ensemble_in_a_bucket_needs_no_directory_for_its_version(s3: Store, tmp_path: Path, beside: str) -> None:
    name = f"ens{len(beside)}"
    text = ensembles.config(ensembles.chain("m", "m", ends=("x", "y")), ["x"], ["y"])
    model = {"m/1/model.onnx": adder(1), "m/config.pbtxt": b"max_batch_size: 8"}
    bucket(s3, name, {**model, "ens/config.pbtxt": text.encode(), beside: b""})
    for control in ("--model-control-mode=none", "--model-control-mode=explicit"):
        arguments = (
            f"--model-repository=s3://{s3.host}/{name}",
            f"--download-directory={tmp_path / 'mirrors'}",
            control,
        )
        with running(*arguments, environment=s3.environment) as server, connected(server) as client:
            if "explicit" in control:
                assert "ens" in {row["name"] for row in client.get_model_repository_index()}
                client.load_model("ens")
            assert added(client, "ens") == 2


def test_a_bucket_that_goes_away_leaves_what_serves(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with contextlib.ExitStack() as until_gone:
        store = until_gone.enter_context(object_stores.s3())
        bucket(store, "models", {"m/1/model.onnx": adder(1)})
        arguments = (
            f"s3://{store.host}/models", f"--download-directory={tmp_path / 'mirrors'}",
            "--model-control-mode=poll", "--repository-poll-secs=0.1",
        )  # fmt: skip
        with running(*arguments, environment=store.environment, log=log) as server, connected(server) as client:
            assert added(client, "m") == 1
            until_gone.close()
            eventually(lambda: "is not reached" in log.read_text())
            assert added(client, "m") == 1
            assert client.is_server_ready()


def test_in_explicit_mode_a_model_is_fetched_when_it_is_loaded(s3: Store, tmp_path: Path) -> None:
    bucket(s3, "explicit", {"a/1/model.onnx": adder(1), "b/1/model.onnx": adder(2)})
    arguments = (
        f"s3://{s3.host}/explicit", f"--download-directory={tmp_path}",
        "--model-control-mode=explicit", "--load-model=a",
    )  # fmt: skip
    with running(*arguments, environment=s3.environment) as server, connected(server) as client:
        assert added(client, "a") == 1
        assert len(list(tmp_path.rglob("model.onnx"))) == 1
        assert {model["name"] for model in client.get_model_repository_index()} == {"a", "b"}
        client.load_model("b")
        assert added(client, "b") == 2
        s3.client.put_object(Bucket="explicit", Key="b/1/model.onnx", Body=adder(4))
        client.load_model("b")
        assert added(client, "b") == 4
        s3.client.put_object(Bucket="explicit", Key="c/1/model.onnx", Body=adder(3))
        client.load_model("c")
        assert added(client, "c") == 3
        with pytest.raises(InferenceServerException, match="no such model in it"):
            client.load_model("d")


def test_a_single_model_in_a_bucket_is_served(s3: Store, tmp_path: Path) -> None:
    bucket(s3, "single", {"x/plus.onnx": adder(6), "x/other.onnx": b"never fetched"})
    address = f"s3://{s3.host}/single/x/plus.onnx"
    with running(address, f"--download-directory={tmp_path}", environment=s3.environment) as server:
        with connected(server) as client:
            assert added(client, "plus") == 6
        assert not list(tmp_path.rglob("other.onnx"))


@pytest.mark.parametrize("mode", ["none", "poll", "explicit"])
def test_a_store_that_is_not_there_at_the_start_is_told_without_keys(tmp_path: Path, mode: str) -> None:
    pytest.importorskip("obstore")
    arguments = ("serve", "s3://127.0.0.1:9/models/repo", f"--download-directory={tmp_path}", "--http-port=0")
    ports = ("--grpc-port=0", "--metrics-port=0", f"--model-control-mode={mode}")
    ended = finished(*arguments, *ports, environment=object_stores.KEYS)
    assert ended.returncode == 2
    assert "ortolan: s3://http://127.0.0.1:9/models/repo: the store" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert object_stores.KEYS["AWS_SECRET_ACCESS_KEY"] not in ended.stderr


def models(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of ``ortolan models``, which fetches and loads as ``serve`` does."""
    ended = finished("models", *arguments, environment=environment)
    return ended.returncode, ended.stdout + ended.stderr


def test_an_interrupted_download_is_gone_on_with_after_a_restart(tmp_path: Path) -> None:
    model = adder(1)
    with serving(FileServer({"/plus.onnx": model})) as server:
        arguments = (f"{server.url}/plus.onnx", f"--download-directory={tmp_path}")
        server.cut_after = [20] * 4
        assert models(*arguments)[0] == 2
        server.seen.clear()
        code, told = models(*arguments)
        assert (code, [seen.headers.get("range") for seen in server.seen]) == (0, ["bytes=0-0", "bytes=80-"])
        assert "plus  version 1" in told
        server.seen.clear()
        assert models(*arguments)[0] == 0
        assert [seen.headers.get("range") for seen in server.seen] == ["bytes=0-0"]


def test_a_model_that_arrives_spoilt_is_not_served_and_the_others_are(tmp_path: Path) -> None:
    files = {"good/1/model.onnx": adder(1), "bad/1/model.onnx": adder(2)}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in files.items())
    served = {f"/r/{path}": content for path, content in files.items()} | {"/r/SHA256SUMS": sums.encode()}
    with serving(FileServer({**served, "/r/bad/1/model.onnx": adder(666)})) as server:
        code, told = models(f"{server.url}/r/", f"--download-directory={tmp_path}")
        assert code == 1
        assert "good  version 1" in told
        assert "bad  NOT SERVED: it could not be fetched from where its repository is" in told
        assert "'bad/1/model.onnx' could not be fetched: twice, what arrived was not what" in told


def test_a_repository_on_the_hub_is_served(tmp_path: Path) -> None:
    commit, model = "a" * 40, adder(3)
    blob = hashlib.sha1(b"blob %d\0" % len(model) + model).hexdigest()  # noqa: S324 - as git does
    entry = {"type": "file", "path": "onnx/model.onnx", "size": len(model), "oid": blob}
    tree = f"/api/models/owner/digits/tree/{commit}/onnx?recursive=false"
    with serving(FileServer({f"/owner/digits/resolve/{commit}/onnx/model.onnx": model})) as hub:
        hub.put_json("/api/models/owner/digits/revision/main", {"sha": commit})
        hub.put_json(tree, [entry])
        arguments = ("hf://owner/digits/onnx/model.onnx", "--model-name=digits", f"--download-directory={tmp_path}")
        with running(*arguments, environment={"HF_ENDPOINT": hub.url}) as server, connected(server) as client:
            assert added(client, "digits") == 3


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/models", "models cannot be fetched from ftp:// addresses"),
        ("s3://bucket/../x", "its path has a part that is empty, '.' or '..'"),
        ("https://me:do-not-show@host/m.onnx", "credentials are in it"),
    ],
)
def test_an_address_that_is_none_ends_the_start(address: str, said: str) -> None:
    code, told = models(address)
    assert code == 2
    assert said in told
    assert "do-not-show" not in told
    assert "Traceback" not in told


def test_without_the_package_for_object_stores_the_extra_is_named(tmp_path: Path) -> None:
    # A package of that name without anything in it stands for one that is not installed.
    (tmp_path / "obstore").mkdir()
    (tmp_path / "obstore" / "__init__.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    code, told = models("s3://bucket/models", environment={"PYTHONPATH": path})
    assert code == 2
    assert 's3://bucket/models needs the package obstore, which is not installed: pip install "ortolan[cloud]"' in told


def test_mirrors_are_files_of_the_user_alone(tmp_path: Path) -> None:
    with serving(FileServer({"/plus.onnx": adder(1)})) as server:
        assert models(f"{server.url}/plus.onnx", f"--download-directory={tmp_path}")[0] == 0
        (home,) = tmp_path.iterdir()
        assert home.stat().st_mode & 0o077 == 0
        assert json.loads((home / "state.json").read_text())["files"].keys() == {"plus.onnx"}


def test_a_signal_ends_the_start_while_models_are_fetched(tmp_path: Path) -> None:
    answer = threading.Event()
    with serving(FileServer({"/plus.onnx": adder(1)})) as server:
        server.wanted = lambda _: answer.wait(30) and None
        ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0", "--drain-delay-secs=0")
        arguments = ("serve", f"{server.url}/plus.onnx", f"--download-directory={tmp_path}", *ports)
        starting = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: server.seen)
            starting.send_signal(signal.SIGTERM)
            assert starting.wait(10) == 0
        finally:
            answer.set()
            starting.kill()
            starting.wait()
