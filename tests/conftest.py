"""Servers that many tests only read from, started once; and what tests that set this process up leave as it was."""

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import onnx_models
import pytest
from server_process import ServerProcess, running

from ortolan.inference.datatypes import DATATYPES

# A shell starts what is to run in the background deaf to Ctrl-C, and so would be all servers and commands of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


ROOT = Path(__file__).parents[1]

# A processor that is busy with other things is no reason to fail.
hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.load_profile("short")
# For `make fuzz`. The tests that say how many examples they need keep to that.
hypothesis.settings.register_profile("long", max_examples=500, deadline=None)

_SET_UP_LOGGERS = ("ortolan", "uvicorn", "uvicorn.access", "watchfiles")
_BATCHING = "dynamic_batching { }\ninstance_group [ { count: 1, kind: KIND_CPU } ]\n"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command sets the process' logging up, down to the levels of single loggers; other tests want theirs back."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, _SET_UP_LOGGERS))}
    yield
    root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture(scope="session")
def model_repo_server() -> Iterator[ServerProcess]:
    """The example models, served."""
    with running(ROOT / "model_repo") as server:
        yield server


@pytest.fixture(scope="session")
def grpcio_server() -> Iterator[ServerProcess]:
    """The example models, and grpcio's transport."""
    with running(ROOT / "model_repo", "--grpc-transport=grpcio") as server:
        yield server


@pytest.fixture(scope="session")
def small_models_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """``identity_fp32`` and so on for each datatype, ``large`` of any width, ``slow``, ``gather``, ``slower``."""
    repository = tmp_path_factory.mktemp("small_models")
    for datatype in DATATYPES:
        identity = onnx_models.identity(datatype.onnx_element_type)
        onnx_models.save_version(repository, f"identity_{datatype.name.lower()}", identity)
    onnx_models.save_version(repository, "large", onnx_models.identity(shape=("rows", "columns")))
    onnx_models.save_version(repository, "slow", onnx_models.slow(20_000), config=f"max_batch_size: 8\n{_BATCHING}")
    onnx_models.save_version(repository, "gather", onnx_models.gather(), config=f"max_batch_size: 8\n{_BATCHING}")
    config = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]\n"
    onnx_models.save_version(repository, "slower", onnx_models.slow(200_000), config=config)
    with running(repository) as server:
        yield server
