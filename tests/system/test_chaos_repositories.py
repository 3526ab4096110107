"""What befalls whole directories of a repository that is followed: clients go on, and the index says what is served.

How tools replace single models is in ``test_repository_changes``.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx_models
import pytest
from adders import added, becomes, hammered
from callers import ask, statistics
from server_process import ServerProcess, eventually, running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs links")

QUIET_S = 0.1
POLL = ("--model-control-mode=poll", "--repository-poll-secs=0.1", f"--repository-quiet-secs={QUIET_S}")


def index(server: ServerProcess) -> dict[tuple[str, str], tuple[str, str]]:
    """(model, version) → (state, reason)."""
    entries = ask(server, "POST", "/v2/repository/index").json
    return {(e["name"], e.get("version", "")): (e.get("state", ""), e.get("reason", "")) for e in entries}


def successes(server: ServerProcess, model: str) -> int:
    """How many requests the version has answered since it was loaded."""
    return int(statistics(server, model)["inference_stats"]["success"]["count"])


def put(root: Path, model: str, value: float, version: int = 1) -> Path:
    return onnx_models.save(onnx_models.adder(value), root / model / str(version) / "model.onnx")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    put(root, "stays", 9)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[ServerProcess]:
    with running(root, *POLL) as server:
        yield server


# -- single models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time_s", [0, 10**9, 2**31 + 10**9], ids=["1970", "2001", "2099"])
def test_a_file_with_any_time_takes_the_place_of_another(server: ServerProcess, root: Path, time_s: int) -> None:
    model = f"dated_{time_s}"
    file = put(root, model, 1)
    becomes(server, model, 1)
    with hammered(server, model) as seen:
        new = onnx_models.save(onnx_models.adder(2), file.with_name(".new"))
        os.utime(new, (time_s, time_s))
        os.replace(new, file)
        eventually(lambda: 2 in seen)
        # In place, and then back to the time that it had before.
        file.write_bytes(onnx_models.adder(3).SerializeToString())
        os.utime(file, (time_s, time_s))
        eventually(lambda: 3 in seen)
    assert set(seen) == {1, 2, 3}
    assert index(server)[model, "1"] == ("READY", "")


def test_the_newest_version_goes_and_the_one_before_takes_over(server: ServerProcess, root: Path) -> None:
    put(root, "versions", 1)
    put(root, "versions", 2, version=2)
    becomes(server, "versions", 2)
    assert ("versions", "1") not in index(server)
    with hammered(server, "versions") as seen:
        shutil.rmtree(root / "versions" / "2")
        eventually(lambda: 1 in seen)
        eventually(lambda: index(server)["versions", "2"] == ("UNAVAILABLE", "unloaded"))
        assert index(server)["versions", "1"] == ("READY", "")
        put(root, "versions", 3, version=2)
        eventually(lambda: 3 in seen)
    assert set(seen) == {1, 2, 3}
    eventually(lambda: index(server)["versions", "1"] == ("UNAVAILABLE", "unloaded"))
    assert index(server)["versions", "2"] == ("READY", "")


def test_the_only_version_goes_of_a_model_whose_configuration_stays(server: ServerProcess, root: Path) -> None:
    """The model is meant to be there still, and its new files do not load: what serves is kept."""
    put(root, "half", 1)
    (root / "half" / "config.pbtxt").write_text("max_batch_size: 4")
    becomes(server, "half", 1)
    with hammered(server, "half") as seen:
        shutil.rmtree(root / "half" / "1")
        eventually(lambda: "no version found" in index(server)["half", "1"][1])
        assert index(server)["half", "1"][0] == "READY"
        put(root, "half", 2)
        eventually(lambda: 2 in seen)
        eventually(lambda: index(server)["half", "1"] == ("READY", ""))
    assert set(seen) == {1, 2}


def empty(model: Path) -> None:
    shutil.rmtree(model / "1")


def file_in_its_place(model: Path) -> None:
    shutil.rmtree(model)
    model.write_bytes(b"a file")


def file_for_a_version(model: Path) -> None:
    shutil.rmtree(model / "1")
    (model / "1").write_bytes(b"a file")


@pytest.mark.parametrize(
    ("change", "reason"),
    [(empty, "unloaded"), (file_in_its_place, "unloaded"), (shutil.rmtree, "unloaded")],
    ids=["empty", "file", "removed"],
)
def test_a_model_of_which_nothing_is_left_is_unloaded_and_comes_back(
    server: ServerProcess, root: Path, change: Callable[[Path], object], reason: str
) -> None:
    model = f"left_{change.__name__}"
    put(root, model, 1)
    becomes(server, model, 1)
    change(root / model)
    eventually(lambda: index(server)[model, "1"] == ("UNAVAILABLE", reason))
    assert added(server, model) is None
    assert ask(server, "GET", "/v2/health/ready").status == 200
    if (root / model).is_file():
        (root / model).unlink()
    put(root, model, 2)
    becomes(server, model, 2)
    assert index(server)[model, "1"] == ("READY", "")


def test_a_version_that_becomes_a_file_fails_and_the_model_serves_on(server: ServerProcess, root: Path) -> None:
    put(root, "filed", 1)
    becomes(server, "filed", 1)
    with hammered(server, "filed") as seen:
        file_for_a_version(root / "filed")
        eventually(lambda: "no version found" in index(server)["filed", "1"][1])
        (root / "filed" / "1").unlink()
        put(root, "filed", 2)
        eventually(lambda: 2 in seen)
    assert set(seen) == {1, 2}


def saved_by_an_editor(config: Path, text: str) -> None:
    """As editors do that keep the file before: it is renamed, the new one is written, and the other removed."""
    kept = config.with_name("config.pbtxt~")
    config.rename(kept)
    config.write_text(text)
    kept.unlink()


def test_a_configuration_that_an_editor_saves_is_taken(server: ServerProcess, root: Path) -> None:
    put(root, "edited", 1)
    config = root / "edited" / "config.pbtxt"
    config.write_text("max_batch_size: 2")
    eventually(lambda: ask(server, "GET", "/v2/models/edited/config").status == 200)
    with hammered(server, "edited") as seen:
        for size in (4, 6, 8):
            saved_by_an_editor(config, f"max_batch_size: {size}")
            eventually(lambda size=size: ask(server, "GET", "/v2/models/edited/config").json["max_batch_size"] == size)
    assert set(seen) == {1}


def test_what_changes_without_end_keeps_no_one_from_being_followed(server: ServerProcess, root: Path) -> None:
    put(root, "restless", 1)
    becomes(server, "restless", 1)
    put(root, "follows", 1)
    over = threading.Event()

    def write() -> None:
        with (root / "restless" / "notes").open("ab") as notes:
            while not over.wait(QUIET_S / 10):
                notes.write(b".")
                notes.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        becomes(server, "follows", 1)
        put(root, "follows", 2)
        becomes(server, "follows", 2)
        assert added(server, "restless") == 1
    finally:
        over.set()
        writer.join()


# -- whole repositories ------------------------------------------------------------------------------------------------


def test_a_name_that_a_second_repository_takes_is_told_and_what_serves_stays(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    put(first, "m", 1)
    put(second, "other", 5)
    with running(first, second, *POLL) as server:
        with hammered(server, "m") as seen:
            put(second, "m", 2)
            eventually(lambda: "two or more repositories" in index(server)["m", "1"][1])
            assert index(server)["m", "1"][0] == "READY"
            before = successes(server, "m")
            shutil.rmtree(second / "m")
            eventually(lambda: index(server)["m", "1"] == ("READY", ""))
            assert successes(server, "m") >= before, "it was not loaded anew"
        assert set(seen) == {1}
        # One that comes to both at once cannot be served.
        put(first, "twice", 1)
        put(second, "twice", 2)
        eventually(
            lambda: any("two or more" in said for (name, _), (_, said) in index(server).items() if name == "twice")
        )
        shutil.rmtree(first / "twice")
        becomes(server, "twice", 2)


def test_models_of_one_name_in_two_namespaces_come_and_go(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    put(first, "m", 1)
    put(second, "other", 5)
    with running(first, second, "--model-namespacing=true", *POLL) as server, hammered(server, "a::m") as seen:
        assert added(server, "m") == 1
        put(second, "m", 2)
        becomes(server, "b::m", 2)
        eventually(lambda: ask(server, "GET", "/v2/models/m/ready").status == 400)
        states = {key: value for key, value in index(server).items() if key[0] in ("a::m", "b::m")}
        assert states == {("a::m", "1"): ("READY", ""), ("b::m", "1"): ("READY", "")}
        put(second, "m", 3)
        becomes(server, "b::m", 3)
        shutil.rmtree(second / "m")
        becomes(server, "m", 1)
        becomes(server, "b::m", None)
    assert set(seen) == {1}


COMES_AND_GOES = """
mounted() { mount -t tmpfs none "$0/mount" && cp -r "$0/models/." "$0/mount" && echo "$1" > "$0/done"; }
mounted at_first
(read _ < "$0/go"; umount -l "$0/mount"; echo away > "$0/done"; read _ < "$0/go"; mounted again) > "$0/out" 2>&1 &
exec "$@"
"""
"""A shell's command line with a directory: what is in ``models`` there is mounted on ``mount``, goes and comes back."""


def test_a_volume_that_is_unmounted_for_a_while_takes_no_model_along(tmp_path: Path) -> None:
    """What is then at its place is an empty directory, as if someone had removed every model."""
    under = ("unshare", "-rm", "sh", "-c", COMES_AND_GOES, str(tmp_path))
    try:
        tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)], timeout=20)
    except OSError:
        tried = None
    if tried is None or tried.returncode != 0:
        pytest.skip("no user may mount a file system here")
    (tmp_path / "mount").mkdir()
    os.mkfifo(tmp_path / "go")
    put(tmp_path / "models", "m", 1)
    log, done = tmp_path / "log", tmp_path / "done"

    def go(expected: str) -> None:
        (tmp_path / "go").write_text("go\n")
        eventually(lambda: done.read_text().strip() == expected)

    with running(tmp_path / "mount", *POLL, under=under, log=log) as server, hammered(server, "m") as seen:
        go("away")
        eventually(lambda: "what was mounted there is gone" in log.read_text())
        assert index(server)["m", "1"] == ("READY", ""), "what is known is told all the while"
        assert ask(server, "GET", "/v2/models/m/ready").status == 200
        put(tmp_path / "models", "m", 2)
        go("again")
        eventually(lambda: 2 in seen)
        assert index(server)["m", "1"] == ("READY", "")
    assert set(seen) == {1, 2}
