"""A server that follows its repository, while files change there in all the ways in which tools change them.

Unless a test says otherwise the timed looks are an hour apart, so that what is seen here comes from file events.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_models
import pytest
from adders import added, becomes, hammered
from callers import ask, statistics
from server_process import ServerProcess, eventually, running

QUIET_S = 0.5
POLL = ("--model-control-mode=poll", "--repository-poll-secs=3600", f"--repository-quiet-secs={QUIET_S}")
TIMED = ("--model-control-mode=poll", "--repository-poll-secs=0.2", "--repository-quiet-secs=0.1")


def index(server: ServerProcess) -> dict[str, tuple[str, str]]:
    """Model → (state, reason) of its last version."""
    reply = ask(server, "POST", "/v2/repository/index")
    return {each["name"]: (each.get("state", ""), each.get("reason", "")) for each in reply.json}


def content(value: float) -> bytes:
    return onnx_models.adder(value).SerializeToString()


def put(root: Path, model: str, value: float, version: int = 1) -> Path:
    """The model's file, written to where it is served from as any tool does that knows nothing of servers."""
    return onnx_models.save(onnx_models.adder(value), root / model / str(version) / "model.onnx")


@contextmanager
def followed(*roots: Path, flags: tuple[str, ...] = POLL, log: Path | None = None) -> Iterator[ServerProcess]:
    with running(*roots, *flags, log=log) as server:
        yield server


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("followed")
    put(root, "stays", 9)
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with followed(repository) as server:
        yield server


def test_a_model_that_is_still_being_copied_is_not_loaded(server: ServerProcess, repository: Path) -> None:
    whole = content(1)
    file = repository / "copied" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    states = set()
    end = time.monotonic() + 3 * QUIET_S
    with file.open("wb", buffering=0) as copy:
        copy.write(whole[:40])
        # The rest comes so slowly that a server which took what is there would have taken it several times.
        while time.monotonic() < end:
            os.utime(file)
            states.add(index(server).get("copied", ("", ""))[0])
        copy.write(whole[40:])
    assert states == {""}
    becomes(server, "copied", 1)


def test_a_version_whose_weights_come_after_its_model_is_loaded_once_all_is_there(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    onnx_models.save_externally(onnx_models.with_external_data(), tmp_path / "m" / "model.onnx")
    target = repository / "weighty" / "1"
    target.mkdir(parents=True)
    states = set()
    for file in sorted((tmp_path / "m").iterdir(), reverse=True):
        end = time.monotonic() + QUIET_S / 2
        while time.monotonic() < end:
            states.add(index(server).get("weighty", ("", ""))[0])
        shutil.copy(file, target)
    eventually(lambda: index(server).get("weighty") == ("READY", ""))
    assert "UNAVAILABLE" not in states


def test_a_file_that_is_touched_is_not_loaded_again(server: ServerProcess, repository: Path) -> None:
    put(repository, "touched", 1)
    becomes(server, "touched", 1)
    before = statistics(server, "touched")["inference_stats"]["success"]["count"]
    os.utime(repository / "touched" / "1" / "model.onnx")
    shutil.copy2(repository / "touched" / "1" / "model.onnx", repository / "touched" / "1" / ".copy")
    os.replace(repository / "touched" / "1" / ".copy", repository / "touched" / "1" / "model.onnx")
    put(repository, "touched_later", 2)
    becomes(server, "touched_later", 2)
    # A version that had been loaded anew would count from 0.
    assert added(server, "touched") == 1
    assert statistics(server, "touched")["inference_stats"]["success"]["count"] == before + 1


def test_a_file_written_over_in_place_with_its_size_and_time_kept_is_loaded_again(
    server: ServerProcess, repository: Path
) -> None:
    file = put(repository, "overwritten", 1)
    becomes(server, "overwritten", 1)
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(content(2))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    becomes(server, "overwritten", 2)


def rename_over(model: Path, value: float) -> None:
    new = onnx_models.save(onnx_models.adder(value), model / "1" / ".new")
    os.replace(new, model / "1" / "model.onnx")


def as_rsync_does(model: Path, value: float) -> None:
    new = model / "1" / ".model.onnx.Xa81kQ"
    with new.open("wb") as file:
        for start in range(0, len(content(value)), 50):
            file.write(content(value)[start : start + 50])
            file.flush()
    os.utime(new, ns=(10**18, 10**18))  # the sender's time
    os.replace(new, model / "1" / "model.onnx")


def as_git_checkout_does(model: Path, value: float) -> None:
    (model / "config.pbtxt").unlink(missing_ok=True)
    (model / "1" / "model.onnx").unlink()
    (model / "1").rmdir()
    (model / "1").mkdir()
    (model / "1" / "model.onnx").write_bytes(content(value))
    (model / "config.pbtxt").write_text("max_batch_size: 2")


def in_place(model: Path, value: float) -> None:
    (model / "1" / "model.onnx").write_bytes(content(value))


def swap_directory(model: Path, value: float) -> None:
    new = model.with_name(f".{model.name}.new")
    onnx_models.save(onnx_models.adder(value), new / "1" / "model.onnx")
    model.rename(model.with_name(f".{model.name}.old"))
    new.rename(model)
    shutil.rmtree(model.with_name(f".{model.name}.old"))


def remove_and_copy(model: Path, value: float) -> None:
    shutil.rmtree(model)
    onnx_models.save(onnx_models.adder(value), model / "1" / "model.onnx")


def next_version(model: Path, value: float) -> None:
    onnx_models.save(onnx_models.adder(value), model / "2" / "model.onnx")


@pytest.mark.parametrize(
    "change",
    [rename_over, as_rsync_does, as_git_checkout_does, in_place, swap_directory, remove_and_copy, next_version],
    ids=lambda change: change.__name__,
)
def test_however_a_model_is_replaced_no_request_fails_meanwhile(
    server: ServerProcess, repository: Path, change: Callable[[Path, float], None]
) -> None:
    model = f"replaced_{change.__name__}"
    put(repository, model, 1)
    becomes(server, model, 1)
    with hammered(server, model) as seen:
        change(repository / model, 2)
        eventually(lambda: 2 in seen)
    assert set(seen) == {1, 2}
    assert seen.count(2) > 1


def test_a_model_that_is_removed_goes_and_comes_back(server: ServerProcess, repository: Path) -> None:
    put(repository, "goes", 1)
    becomes(server, "goes", 1)
    shutil.rmtree(repository / "goes")
    becomes(server, "goes", None)
    eventually(lambda: index(server)["goes"] == ("UNAVAILABLE", "unloaded"))
    put(repository, "goes", 2)
    becomes(server, "goes", 2)


def test_a_model_that_is_renamed_is_there_under_one_of_its_names_all_the_while(
    server: ServerProcess, repository: Path
) -> None:
    put(repository, "old_name", 1)
    becomes(server, "old_name", 1)
    with hammered(server, "old_name") as seen:
        (repository / "old_name").rename(repository / "new_name")
        becomes(server, "new_name", 1)
    assert seen
    becomes(server, "old_name", None)


def flip(link: Path, target: str) -> None:
    """Let a symbolic link point elsewhere, in one step, as Kubernetes and git-sync do."""
    new = link.with_name(f"{link.name}_tmp")
    new.symlink_to(target)
    os.replace(new, link)


def test_a_volume_of_kubernetes_is_followed_through_its_links(server: ServerProcess, repository: Path) -> None:
    model = repository / "mounted"
    for stamp, value in (("..1", 1), ("..2", 2)):
        onnx_models.save(onnx_models.adder(value), model / stamp / "1" / "model.onnx")
        (model / stamp / "config.pbtxt").write_text(f"max_batch_size: {int(value)}")
    (model / "..data").symlink_to("..1")
    (model / "1").symlink_to("..data/1")
    (model / "config.pbtxt").symlink_to("..data/config.pbtxt")
    becomes(server, "mounted", 1)
    with hammered(server, "mounted") as seen:
        flip(model / "..data", "..2")
        eventually(lambda: 2 in seen)
    assert set(seen) == {1, 2}
    assert ask(server, "GET", "/v2/models/mounted/config").json["max_batch_size"] == 2


def test_a_link_that_leads_out_of_the_repository_is_followed_to_its_end(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    put(tmp_path, "target", 1)
    (repository / "linked").symlink_to(tmp_path / "target")
    becomes(server, "linked", 1)
    rename_over(tmp_path / "target", 2)
    becomes(server, "linked", 2)


def test_a_repository_that_is_a_link_is_followed_when_it_flips(tmp_path: Path) -> None:
    for revision, value in (("one", 1), ("two", 2)):
        put(tmp_path / revision, "m", value)
        put(tmp_path / revision, "same", 5)
    (tmp_path / "current").symlink_to("one")
    with followed(tmp_path / "current") as server:
        count = statistics(server, "same")["inference_stats"]["success"]["count"]
        assert (added(server, "m"), added(server, "same")) == (1, 5)
        with hammered(server, "m") as seen:
            flip(tmp_path / "current", "two")
            eventually(lambda: 2 in seen)
        assert set(seen) == {1, 2}
        rename_over(tmp_path / "two" / "m", 3)
        becomes(server, "m", 3)
        assert statistics(server, "same")["inference_stats"]["success"]["count"] == count + 1, "it has not changed"


def test_a_repository_whose_directory_is_swapped_is_followed(tmp_path: Path) -> None:
    root, new = tmp_path / "repository", tmp_path / "new"
    put(root, "m", 1)
    put(root, "goes", 1)
    put(new, "m", 2)
    with followed(root) as server, hammered(server, "m") as seen:
        root.rename(tmp_path / "old")
        new.rename(root)
        eventually(lambda: 2 in seen)
        becomes(server, "goes", None)
        rename_over(root / "m", 3)
        eventually(lambda: 3 in seen)
    assert set(seen) == {1, 2, 3}


@pytest.mark.parametrize("comes", ["directory", "link"])
def test_a_repository_that_appears_after_the_start_is_served_then(tmp_path: Path, comes: str) -> None:
    late, log = tmp_path / "late", tmp_path / "log"
    put(tmp_path / "there", "early", 1)
    with followed(tmp_path / "there", late, log=log) as server:
        assert added(server, "early") == 1
        assert ask(server, "GET", "/v2/health/ready").status != 200, "a part of the repository is not there yet"
        assert f"waiting for a part of the model repository: the model repository '{late}'" in log.read_text()
        put(tmp_path / "prepared", "m", 2)
        if comes == "link":
            late.symlink_to("prepared")
        else:
            (tmp_path / "prepared").rename(late)
        becomes(server, "m", 2)
        assert ask(server, "GET", "/v2/health/ready").status == 200
        rename_over(late / "m", 3)
        becomes(server, "m", 3)


def test_a_repository_whose_parent_appears_after_the_start_is_found_by_looking(tmp_path: Path) -> None:
    with followed(tmp_path / "mount" / "models", flags=TIMED) as server:
        put(tmp_path / "mount" / "models", "m", 1)
        becomes(server, "m", 1)


def test_one_repository_of_two_may_go_for_a_while(tmp_path: Path) -> None:
    first, second, log = tmp_path / "first", tmp_path / "second", tmp_path / "log"
    put(first, "a", 1)
    put(second, "b", 2)
    with followed(first, second, flags=TIMED, log=log) as server, hammered(server, "b") as seen:
        second.rename(tmp_path / "away")
        eventually(lambda: "cannot look at the model repository" in log.read_text())
        rename_over(first / "a", 3)
        becomes(server, "a", 3)
        (tmp_path / "away").rename(second)
        rename_over(second / "b", 4)
        eventually(lambda: 4 in seen)
    assert set(seen) == {2, 4}


def test_a_named_configuration_is_followed(tmp_path: Path) -> None:
    put(tmp_path, "m", 1)
    (tmp_path / "m" / "config.pbtxt").write_text("max_batch_size: 2")
    flags = (*POLL, "--model-config-name=gpu")

    def size(server: ServerProcess) -> int:
        return int(ask(server, "GET", "/v2/models/m/config").json["max_batch_size"])

    with followed(tmp_path, flags=flags) as server:
        assert size(server) == 2
        (tmp_path / "m" / "configs").mkdir()
        (tmp_path / "m" / "configs" / "gpu.pbtxt").write_text("max_batch_size: 8")
        eventually(lambda: size(server) == 8)
        (tmp_path / "m" / "configs" / "gpu.pbtxt").unlink()
        eventually(lambda: size(server) == 2)


def test_while_a_model_takes_long_to_load_the_others_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "m", 1)
    with followed(tmp_path, flags=(*POLL, "--exit-timeout-secs=1")) as server:
        onnx_models.save_version(tmp_path, "long", onnx_models.chain(40_000))
        eventually(lambda: index(server).get("long", ("", ""))[0] == "LOADING")
        rename_over(tmp_path / "m", 2)
        becomes(server, "m", 2)
        assert index(server)["long"][0] == "LOADING"


def test_a_change_is_served_soon_although_timed_looks_are_an_hour_apart(
    server: ServerProcess, repository: Path
) -> None:
    rename_over(repository / "stays", 10)
    start = time.monotonic()
    becomes(server, "stays", 10)
    # Generous: the machine may be busy with other tests.
    assert time.monotonic() - start < 5
