"""Arenas that give back what a burst left in them."""

import sys
import threading
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from heavy_models import burst
from onnx import ModelProto, TensorProto

from ortolan.core.memory_meter import ProcessMemory
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.datatypes import BF16, BYTES, DATATYPES
from ortolan.repository.model_config import InstanceKind

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
SETTINGS = SessionSettings()
MIB = 1 << 20


def session_of(proto: ModelProto, settings: SessionSettings = SETTINGS) -> Session:
    return Session(proto.SerializeToString(), "m", settings, CPU, Path())


def held_bytes() -> int:
    found = ProcessMemory().held_bytes()
    assert found is not None
    return found


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((count, 4), np.float32)}


@pytest.mark.skipif(sys.platform != "linux", reason="glibc tells what its heap holds")
def test_what_a_burst_left_is_given_back_and_answers_stay_the_same() -> None:
    session = session_of(burst())
    (small,) = session.run(rows(2), ["y"])
    before = held_bytes()
    session.run(rows(1024), ["y"])
    left = held_bytes() - before
    assert left > 16 * MIB
    session.shrink_arena()
    assert held_bytes() - before < 2 * MIB
    assert np.array_equal(session.run(rows(2), ["y"])[0], small)


def test_runs_that_go_on_beside_are_not_disturbed() -> None:
    session = session_of(burst(512))
    (expected,) = session.run(rows(256), ["y"])
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(100):
            (found,) = session.run(rows(256), ["y"])
            if not np.array_equal(found, expected):
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        session.shrink_arena()
    assert wrong == []


@pytest.mark.parametrize("datatype", [*DATATYPES, BYTES, BF16], ids=lambda datatype: datatype.name)
def test_models_of_every_datatype_can_be_shrunk(datatype: object) -> None:
    session = session_of(onnx_models.identity(datatype.onnx_element_type))  # type: ignore[attr-defined]
    session.shrink_arena()


def test_a_model_that_takes_long_is_not_run_for_it() -> None:
    session = session_of(onnx_models.slow(1 << 40))
    session.shrink_arena()


def test_without_an_arena_there_is_nothing_to_give_back() -> None:
    session_of(onnx_models.identity(TensorProto.FLOAT), SessionSettings(memory_arena=False)).shrink_arena()
