"""Models that are added, replaced, rolled back, overridden and removed while clients of every kind ask them."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ensembles
import onnx
import onnx_models
import onnx_sequences
import pytest
from callers import ask, rest_body, row
from changing_traffic import Truth, asked
from server_process import ServerProcess, eventually, running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs links")

EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")
POLL = ("--model-control-mode=poll", "--repository-poll-secs=0.1", "--repository-quiet-secs=0.1")
SEQUENCES = f"max_sequence_idle_microseconds: 10000000 oldest {{ }} {onnx_sequences.SUM}"
STEP = 100.0
"""What the second step of the ensemble adds."""


def index(server: ServerProcess) -> dict[tuple[str, str], tuple[str, str]]:
    """(model, version) → (state, reason)."""
    entries = ask(server, "POST", "/v2/repository/index").json
    return {(e["name"], e.get("version", "")): (e.get("state", ""), e.get("reason", "")) for e in entries}


def added(server: ServerProcess, model: str) -> float | None:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
    return float(reply.array.flat[0]) if reply.status == 200 else None


def replace(file: Path, proto: onnx.ModelProto) -> None:
    """Put a model where another may be, in one step."""
    os.replace(onnx_models.save(proto, file.with_name(".new")), file)


def accumulator(revision: int) -> onnx.ModelProto:
    """Sums, as every other revision gives them."""
    proto = onnx_sequences.accumulator()
    proto.doc_string = str(revision)
    return proto


class Scene:
    """A repository with ``m``, which adds 1, ``k``, the ensemble ``e`` of both, and ``s``, which sums up sequences."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.m, self.e, self.s = Truth(1), Truth(1 + STEP), Truth(0)
        onnx_models.save_version(root, "m", onnx_models.adder(1))
        onnx_models.save_version(root, "k", onnx_models.adder(STEP))
        steps = ensembles.chain("m", "k", ends=("x", "y"))
        ensembles.save(root, "e", ensembles.config(steps, inputs=["x"], outputs=["y"], max_batch_size=4))
        onnx_models.save_version(root, "s", accumulator(0), config=onnx_sequences.block(SEQUENCES))

    @contextmanager
    def hammered(self, server: ServerProcess) -> Iterator[None]:
        self.server = server
        with asked(server, {"m": self.m, "e": self.e}, {"s": self.s}):
            yield
        assert self.m.faults + self.e.faults + self.s.faults == []

    def becomes(self, value: float, change: Callable[[], object], settle: Callable[[], object]) -> None:
        """``change`` the repository so that ``m`` adds ``value``; ``settle`` has the server take it."""
        self.m.may_become(value)
        self.e.may_become(value + STEP)
        change()
        settle()
        for truth, model, right in ((self.m, "m", value), (self.e, "e", value + STEP)):
            eventually(lambda model=model, right=right: added(self.server, model) == right)
            truth.is_now(right)
            count = truth.seen[right]
            eventually(lambda truth=truth, right=right, count=count: truth.seen[right] > count + 5)


def test_clients_notice_nothing_of_changes_but_the_answers_that_are_right(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    file, config = tmp_path / "m" / "1" / "model.onnx", tmp_path / "m" / "config.pbtxt"
    with running(tmp_path, *EXPLICIT) as server, scene.hammered(server):

        def load(model: str = "m", parameters: dict[str, object] | None = None) -> None:
            reply = ask(server, "POST", f"/v2/repository/models/{model}/load", {"parameters": parameters or {}})
            assert reply.status == 200, reply.body

        def sequences_go_on() -> None:
            count = sum(scene.s.seen.values())
            eventually(lambda: sum(scene.s.seen.values()) > count + 3 or scene.s.faults)

        scene.becomes(2, lambda: replace(file, onnx_models.adder(2)), load)
        replace(tmp_path / "s" / "1" / "model.onnx", accumulator(1))
        load("s")
        sequences_go_on()
        # A new version, and back again.
        scene.becomes(3, lambda: onnx_models.save_version(tmp_path, "m", onnx_models.adder(3), 2), load)
        assert index(server)["m", "2"] == ("READY", "")
        scene.becomes(2, lambda: shutil.rmtree(tmp_path / "m" / "2"), load)
        eventually(lambda: index(server)["m", "2"] == ("UNAVAILABLE", "unloaded"))
        # A configuration that chooses the other of two, and the next load without it.
        onnx_models.save_version(tmp_path, "m", onnx_models.adder(4), 3)
        config.write_text("version_policy { specific { versions: [ 1 ] } }")
        chosen = json.dumps({"version_policy": {"specific": {"versions": [3]}}})
        scene.becomes(4, lambda: None, lambda: load(parameters={"config": chosen}))
        scene.becomes(2, lambda: None, load)
        # Another model comes and goes; one that is wrong does not come; the step of the ensemble fails to load.
        onnx_models.save_version(tmp_path, "other", onnx_models.adder(9))
        load("other")
        assert added(server, "other") == 9
        assert ask(server, "POST", "/v2/repository/models/other/unload", {}).status == 200
        eventually(lambda: index(server)["other", "1"] == ("UNAVAILABLE", "unloaded"))
        file.write_bytes(b"no model")
        assert ask(server, "POST", "/v2/repository/models/m/load", {}).status == 400
        assert index(server)["m", "1"][0] == "READY"
        assert "the newer files failed to load" in index(server)["m", "1"][1]
        scene.becomes(5, lambda: replace(file, onnx_models.adder(5)), load)
        assert index(server)["m", "1"] == ("READY", "")
        for revision in (2, 3):
            replace(tmp_path / "s" / "1" / "model.onnx", accumulator(revision))
            load("s")
            sequences_go_on()
    assert {1, 2, 3, 4, 5} <= set(scene.m.seen)


def test_clients_notice_nothing_while_the_repository_is_followed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    file, prepared = tmp_path / "m" / "1" / "model.onnx", tmp_path / ".prepared"
    onnx_models.save(onnx_models.adder(3), prepared / "model.onnx")
    with running(tmp_path, *POLL) as server, scene.hammered(server):

        def follow() -> None:
            """Nothing has to be done."""

        scene.becomes(2, lambda: replace(file, onnx_models.adder(2)), follow)
        scene.becomes(3, lambda: shutil.copytree(prepared, tmp_path / "m" / "2"), follow)
        eventually(lambda: index(server)["m", "1"] == ("UNAVAILABLE", "unloaded"))
        replace(tmp_path / "s" / "1" / "model.onnx", accumulator(1))
        scene.becomes(2, lambda: shutil.rmtree(tmp_path / "m" / "2"), follow)
        eventually(lambda: index(server)["m", "2"] == ("UNAVAILABLE", "unloaded"))
        assert index(server)["m", "1"] == index(server)["e", "1"] == index(server)["s", "1"] == ("READY", "")
