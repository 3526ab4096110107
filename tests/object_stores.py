"""Servers of object stores and registries that run on this machine, for tests."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from server_process import eventually

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "do-not-show-me", "AWS_REGION": "us-east-1"}

# Azurite's account, which its documentation publishes.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Store:
    """A running server; ``client`` writes to it, ``environment`` is what a reader needs."""

    url: str
    client: Any
    environment: Mapping[str, str]

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]


@contextmanager
def s3() -> Iterator[Store]:
    """moto's server, which speaks S3 and, for reading, the XML interface of Google Cloud Storage."""
    for package in ("obstore", "moto", "flask", "flask_cors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    import boto3

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process(command, f"http://127.0.0.1:{port}/moto-api/"):
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )
        yield Store(f"http://127.0.0.1:{port}", client, KEYS)


@contextmanager
def azure(directory: Path) -> Iterator[Store]:
    """Azurite, where it is installed; ``client`` makes obstore's store of a container."""
    found = shutil.which("azurite-blob")
    if found is None:
        pytest.skip("azurite-blob is not installed (npm install azurite)")
    if importlib.util.find_spec("obstore") is None:
        pytest.skip("the package obstore is not installed")
    port = free_port()
    command = [
        found, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", str(directory),
        "--blobHost", "127.0.0.1", "--blobPort", str(port),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
    with process(command, url):
        environment = {"AZURE_STORAGE_KEY": AZURITE_KEY, "AZURE_STORAGE_ENDPOINT": url}
        yield Store(url, _azure_container(url), environment)


def _azure_container(url: str) -> Any:
    from obstore.store import AzureStore

    def store(container: str) -> Any:
        return AzureStore(
            container,
            config={"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEY, "endpoint": url},
            client_options={"allow_http": True},
        )

    return store


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """docker's registry, where it is installed; yields host and port."""
    found = shutil.which("docker-registry") or shutil.which("registry")
    if found is None:
        pytest.skip("docker-registry is not installed (apt-get install docker-registry)")
    port = free_port()
    config = directory / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error}}\n"
    )
    with process([found, "serve", str(config)], f"http://127.0.0.1:{port}/v2/"):
        yield f"127.0.0.1:{port}"


@contextmanager
def process(command: list[str], url: str) -> Iterator[None]:
    """A server that runs ``command``, from when ``url`` answers."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, "NO_COLOR": "1"}}
    running = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    try:
        eventually(lambda: running.poll() is not None or _answers(url), within_s=60)
        assert running.poll() is None, f"{command[0]} ended at once"
        yield
    finally:
        running.kill()
        running.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):  # noqa: S310 - an address of this machine
            return True
    except OSError as error:
        # A refusal is an answer, too.
        answered = hasattr(error, "code")
        getattr(error, "close", lambda: None)()
        return answered
