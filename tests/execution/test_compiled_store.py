"""The directory of compiled models: shared by processes, private to a user, and bounded."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ortolan.execution.compiled_entry import MODEL, Refusal, write_model, write_refusal
from ortolan.execution.compiled_key import CompiledKey
from ortolan.execution.compiled_store import CompiledStore, Held, NoRoom

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of this kind")

KIB = 1024


def key_of(name: str) -> CompiledKey:
    return CompiledKey(name, "1.31.1", "flags: avx2", ("CPUExecutionProvider",), "")


ONE, TWO, THREE = key_of("one"), key_of("two"), key_of("three")


@pytest.fixture
def store(tmp_path: Path) -> CompiledStore:
    return CompiledStore(tmp_path / "cache", 100 * KIB)


def put(store: CompiledStore, key: CompiledKey, size_bytes: int = 30 * KIB) -> None:
    with store.workplace(size_bytes) as place:
        (place.folder / MODEL).write_bytes(b"x" * size_bytes)
        write_model(place.folder, key.text, ())
        store.admit(place, key)


def found(store: CompiledStore, key: CompiledKey) -> bool:
    held = store.find(key)
    if isinstance(held, Held):
        held.release()
    return held is not None


def names(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache" / "v1").iterdir()}


def in_another_process(tmp_path: Path, statements: str) -> "subprocess.Popen[str]":
    """A process that does ``statements`` with a store on the same directory, says so, and waits."""
    program = f"""
import sys
from pathlib import Path
from ortolan.execution.compiled_key import CompiledKey
from ortolan.execution.compiled_store import CompiledStore
store = CompiledStore(Path({str(tmp_path / "cache")!r}), 100 * 1024)
key = CompiledKey("one", "1.31.1", "flags: avx2", ("CPUExecutionProvider",), "")
{statements}
print("done", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate(timeout=10)


def test_looking_makes_no_directory(store: CompiledStore, tmp_path: Path) -> None:
    assert store.find(ONE) is None
    assert not (tmp_path / "cache").exists()


def test_what_was_put_in_is_found_by_its_key_only(store: CompiledStore) -> None:
    put(store, ONE)
    held = store.find(ONE)
    assert isinstance(held, Held)
    assert held.model.path.read_bytes() == b"x" * 30 * KIB
    held.release()
    held.release()
    assert store.find(TWO) is None


def test_a_refusal_is_found_too(store: CompiledStore) -> None:
    with store.workplace(1) as place:
        write_refusal(place.folder, ONE.text, "because")
        store.admit(place, ONE)
    assert store.find(ONE) == Refusal("because")


def test_what_is_damaged_is_gone_and_can_be_put_in_again(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE)
    os.truncate(tmp_path / "cache" / "v1" / ONE.name / MODEL, 3)
    assert store.find(ONE) is None
    assert names(tmp_path) == {"locks"}
    put(store, ONE)
    assert found(store, ONE)


def test_what_is_put_in_second_is_dropped(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE, 10 * KIB)
    put(store, ONE, 20 * KIB)
    assert (tmp_path / "cache" / "v1" / ONE.name / MODEL).stat().st_size == 10 * KIB
    assert names(tmp_path) == {ONE.name, "locks"}


def test_a_workplace_that_is_given_up_leaves_nothing(store: CompiledStore, tmp_path: Path) -> None:
    with store.workplace(1) as place:
        (place.folder / MODEL).write_bytes(b"half")
    assert names(tmp_path) == {"locks"}


# -- size -------------------------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_makes_room(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE)
    put(store, TWO)
    for age_s, key in ((200, ONE), (100, TWO)):
        os.utime(tmp_path / "cache" / "v1" / key.name, (1e9 - age_s, 1e9 - age_s))
    assert found(store, ONE)  # which makes TWO the older one
    put(store, THREE, 60 * KIB)
    assert [found(store, key) for key in (ONE, TWO, THREE)] == [True, False, True]


def test_what_is_in_use_stays_and_what_finds_no_room_is_not_kept(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE, 60 * KIB)
    held = store.find(ONE)
    assert isinstance(held, Held)
    with pytest.raises(NoRoom):
        put(store, TWO, 60 * KIB)
    assert names(tmp_path) == {ONE.name, "locks"}
    held.release()
    put(store, TWO, 60 * KIB)
    assert names(tmp_path) == {TWO.name, "locks"}


def test_what_another_process_uses_stays_until_that_ends(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE, 60 * KIB)
    other = in_another_process(tmp_path, "held = store.find(key)")
    try:
        with pytest.raises(NoRoom):
            put(store, TWO, 60 * KIB)
    finally:
        end(other)
    put(store, TWO, 60 * KIB)
    assert names(tmp_path) == {TWO.name, "locks"}


def test_a_model_larger_than_the_whole_cache_is_not_begun(store: CompiledStore) -> None:
    with pytest.raises(NoRoom), store.workplace(101 * KIB):
        pytest.fail("there is no room")


def test_a_model_for_which_the_disk_has_no_room_is_not_begun(tmp_path: Path) -> None:
    store = CompiledStore(tmp_path / "cache", 100 * KIB, free=lambda _: 50 * KIB)
    with pytest.raises(NoRoom), store.workplace(30 * KIB):
        pytest.fail("there is no room")


# -- making once ------------------------------------------------------------------------------------------------------


def test_one_at_a_time_makes_a_model(store: CompiledStore) -> None:
    with store.turn(ONE, 0) as mine, store.turn(ONE, 0) as also, store.turn(TWO, 0) as other:
        assert (mine, also, other) == (True, False, True)
    with store.turn(ONE, 0) as mine:
        assert mine


def test_who_waits_gets_its_turn(store: CompiledStore) -> None:
    begun, turns = threading.Event(), list[bool]()

    def wait() -> None:
        begun.set()
        with store.turn(ONE, 10) as mine:
            turns.append(mine)

    thread = threading.Thread(target=wait)
    with store.turn(ONE, 0):
        thread.start()
        assert begun.wait(10)
    thread.join(10)
    assert turns == [True]


def test_a_process_that_is_killed_keeps_no_turn_and_leaves_nothing(store: CompiledStore, tmp_path: Path) -> None:
    other = in_another_process(
        tmp_path, "turn = store.turn(key, 0); assert turn.__enter__()\nplace = store.workplace(1); place.__enter__()"
    )
    try:
        with store.turn(ONE, 0) as mine:
            assert not mine
        assert any(name.startswith("tmp-") for name in names(tmp_path))
        put(store, TWO)  # which leaves alone what is being made
        assert any(name.startswith("tmp-") for name in names(tmp_path))
    finally:
        end(other)
    with store.turn(ONE, 0) as mine:
        assert mine
        put(store, ONE)
    assert names(tmp_path) == {ONE.name, TWO.name, "locks"}


# -- other users ------------------------------------------------------------------------------------------------------


def test_nobody_else_may_enter(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE)
    assert (tmp_path / "cache" / "v1").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_enter_is_not_used(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE)
    (tmp_path / "cache" / "v1").chmod(0o755)
    with pytest.raises(PermissionError, match="chmod 700"):
        store.find(ONE)
    with pytest.raises(PermissionError), store.workplace(1):
        pytest.fail("it is not private")


def test_a_link_to_a_directory_is_not_used(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE)
    (tmp_path / "cache" / "v1").rename(tmp_path / "elsewhere")
    (tmp_path / "cache" / "v1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="symbolic link"):
        store.find(ONE)


def test_an_entry_that_is_a_link_is_not_found(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE)
    root = tmp_path / "cache" / "v1"
    (root / ONE.name).rename(tmp_path / "elsewhere")
    (root / ONE.name).symlink_to(tmp_path / "elsewhere")
    assert store.find(ONE) is None


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_not_used(store: CompiledStore, tmp_path: Path) -> None:
    put(store, ONE)
    os.chown(tmp_path / "cache" / "v1", 12345, -1)
    with pytest.raises(PermissionError, match="another user"):
        store.find(ONE)


def test_a_file_in_the_directory_s_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = CompiledStore(tmp_path / "file", KIB)
    with pytest.raises(OSError), store.workplace(1):  # noqa: PT011 - which kind depends on the system
        pytest.fail("it is no directory")
