"""Mirrors of directories and files on a web server that runs on this machine."""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, Seen, serving

from ortolan.repository.sources.http_client import HttpClient
from ortolan.repository.sources.mirror import Mirror
from ortolan.repository.sources.mirror_files import MirrorFiles
from ortolan.repository.sources.source_address import WebAddress
from ortolan.repository.sources.web_file import WebDirectory, WebFile

SHOWN = "https://models/"
MODEL = b"model" * 10_000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer()) as server:
        yield server


def publish(server: FileServer, files: dict[str, bytes]) -> None:
    """``files`` are what there is from now on."""
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in files.items())
    server.files = {f"/r/{path}": content for path, content in {**files, "SHA256SUMS": sums.encode()}.items()}
    server.seen.clear()


def mirror(server: FileServer, home: Path, stopping: threading.Event | None = None) -> Mirror:
    stopping = stopping or threading.Event()
    client = HttpClient(stopping, timeout_s=5, first_delay_s=0.001)
    source = WebDirectory(WebAddress(f"{server.url}/r/"), {"HOME": "/nowhere"}, client)
    return Mirror(source, SHOWN, MirrorFiles(home, "repo"), 4, stopping)


def mirror_of_file(server: FileServer, home: Path, path: str) -> Mirror:
    client = HttpClient(threading.Event(), timeout_s=5, first_delay_s=0.001)
    source = WebFile(WebAddress(server.url + path), {"HOME": "/nowhere"}, client)
    return Mirror(source, SHOWN, MirrorFiles(home, path.rpartition("/")[2]), 4, threading.Event())


def held(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"
    }


def fetched(server: FileServer) -> list[str]:
    return sorted(seen.path.removeprefix("/r/") for seen in server.seen if not seen.path.endswith("SHA256SUMS"))


def test_everything_is_fetched_once(server: FileServer, tmp_path: Path) -> None:
    files = {"a/1/model.onnx": MODEL, "a/config.pbtxt": b"", "b/1/model.onnx": MODEL[::-1]}
    publish(server, files)
    first = mirror(server, tmp_path)
    assert first.refresh() == ()
    assert held(first.root) == files
    server.seen.clear()
    assert first.refresh() == ()
    assert mirror(server, tmp_path).refresh() == ()
    assert fetched(server) == []
    assert not (tmp_path / "partial").exists()


def test_what_changed_is_fetched_and_what_went_goes(server: FileServer, tmp_path: Path) -> None:
    publish(server, {"a/1/model.onnx": MODEL, "b/1/model.onnx": MODEL, "c/1/model.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    mirrored.refresh()
    untouched = (mirrored.root / "b/1/model.onnx").stat()
    now = {"a/1/model.onnx": b"other", "b/1/model.onnx": MODEL, "a/2/model.onnx": b"new"}
    publish(server, now)
    assert mirrored.refresh() == ()
    assert held(mirrored.root) == now
    assert fetched(server) == ["a/1/model.onnx", "a/2/model.onnx"]
    assert (mirrored.root / "b/1/model.onnx").stat() == untouched
    assert not (mirrored.root / "c").exists()


def test_a_model_whose_download_is_spoilt_stays_as_it_was_while_others_change(
    server: FileServer, tmp_path: Path
) -> None:
    publish(server, {"a/1/model.onnx": MODEL, "b/1/model.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    mirrored.refresh()
    publish(server, {"a/1/model.onnx": b"other", "a/2/model.onnx": b"new", "b/1/model.onnx": b"other"})
    server.files["/r/a/2/model.onnx"] = b"not what the list says"
    (problem,) = mirrored.refresh()
    assert (problem.model, problem.root) == ("a", mirrored.root)
    assert problem.message.startswith(f"{SHOWN}: 'a/2/model.onnx' could not be fetched: twice,")
    assert held(mirrored.root) == {"a/1/model.onnx": MODEL, "b/1/model.onnx": b"other"}
    server.files["/r/a/2/model.onnx"] = b"new"
    assert mirrored.refresh() == ()
    assert held(mirrored.root)["a/1/model.onnx"] == b"other"


def test_a_source_that_cannot_be_reached_changes_nothing(server: FileServer, tmp_path: Path) -> None:
    publish(server, {"a/1/model.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    mirrored.refresh()
    server.failing = [503] * 4
    (problem,) = mirrored.refresh()
    assert problem.model == ""
    assert held(mirrored.root) == {"a/1/model.onnx": MODEL}
    assert mirrored.refresh() == ()


def test_only_chosen_models_are_fetched_and_of_the_others_it_is_known_that_they_are(
    server: FileServer, tmp_path: Path
) -> None:
    publish(server, {"a/1/model.onnx": MODEL, "b/1/model.onnx": MODEL, "b/2/model.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    assert mirrored.refresh({"a"}) == ()
    assert fetched(server) == ["a/1/model.onnx"]
    assert sorted(path.name for path in (mirrored.root / "b").iterdir()) == ["1", "2"]
    assert mirrored.refresh({"b"}) == ()
    assert len(held(mirrored.root)) == 3


def test_the_models_of_a_chosen_ensemble_are_fetched_with_it(server: FileServer, tmp_path: Path) -> None:
    steps = b'ensemble_scheduling { step [ { model_name: "inner" }, {model_name:"outer"} ] }'
    files = {"both/config.pbtxt": steps, "inner/config.pbtxt": b'step { model_name: "deep" }', "other/1/m.onnx": MODEL}
    publish(server, {**files, "outer/1/m.onnx": MODEL, "deep/1/m.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    assert mirrored.refresh({"both"}) == ()
    assert sorted({path.partition("/")[0] for path in held(mirrored.root)}) == ["both", "deep", "inner", "outer"]


STEPS = b'platform: "ensemble"'


def test_an_ensembles_empty_version_is_there_for_as_long_as_something_stands_for_it(
    server: FileServer, tmp_path: Path
) -> None:
    files = {"ens/config.pbtxt": STEPS, "a/1/model.onnx": MODEL}
    mirrored = mirror(server, tmp_path)
    publish(server, {**files, "ens/3/.gitkeep": b"", "a/2/.gitkeep": b""})
    assert mirrored.refresh() == ()
    assert sorted(path.name for path in (mirrored.root / "ens").iterdir()) == ["3", "config.pbtxt"]
    assert held(mirrored.root) == files
    assert not (mirrored.root / "a" / "2").exists()
    publish(server, files)
    assert mirrored.refresh() == ()
    assert [path.name for path in (mirrored.root / "ens").iterdir()] == ["config.pbtxt"]


def test_an_ensemble_that_is_not_chosen_is_known_by_a_version_until_it_is(server: FileServer, tmp_path: Path) -> None:
    publish(server, {"ens/config.pbtxt": STEPS, "a/1/model.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    assert mirrored.refresh(()) == ()
    assert [path.name for path in (mirrored.root / "ens").iterdir()] == ["1"]
    assert mirrored.refresh({"ens"}) == ()
    assert [path.name for path in (mirrored.root / "ens").iterdir()] == ["config.pbtxt"]


def test_a_version_that_is_gone_before_it_was_ever_chosen_is_not_known_any_more(
    server: FileServer, tmp_path: Path
) -> None:
    mirrored = mirror(server, tmp_path)
    publish(server, {"a/1/model.onnx": MODEL, "a/2/model.onnx": MODEL})
    mirrored.refresh(())
    publish(server, {"a/1/model.onnx": MODEL})
    assert mirrored.refresh({"a"}) == ()
    assert [path.name for path in (mirrored.root / "a").iterdir()] == ["1"]


@pytest.mark.parametrize("path", ["../evil", "a/../../evil", "/evil", "a/..\\evil", "./../evil", "a//../../evil"])
def test_no_name_leads_out_of_the_mirror(
    server: FileServer, tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish(server, {"a/1/model.onnx": MODEL, path: b"evil"})
    for name in ("/evil", "//evil", "/r/evil", "/r//evil", f"/r/{path}"):
        server.files[name] = b"evil"
    mirrored = mirror(server, tmp_path / "home")
    with caplog.at_level(logging.WARNING):
        assert mirrored.refresh() == ()
        assert mirrored.refresh() == ()
    assert held(mirrored.root) == {"a/1/model.onnx": MODEL}
    assert not list(tmp_path.rglob("*evil*"))
    assert len([record for record in caplog.records if "is left out" in record.message]) == 1


def test_a_state_that_names_files_elsewhere_removes_none_of_them(server: FileServer, tmp_path: Path) -> None:
    publish(server, {"a/1/model.onnx": MODEL})
    precious = tmp_path / "precious"
    precious.write_text("keep")
    mirrored = mirror(server, tmp_path / "home")
    mirrored.refresh()
    state = tmp_path / "home" / "state.json"
    state.write_text(state.read_text().replace("repo/a/1/model.onnx", "../../precious"))
    assert mirrored.refresh() == ()
    assert precious.exists()


@pytest.mark.parametrize("state", ["", "{}", '{"format": 1, "files": {"a": {}}}', '{"format": 2}', "[" * 100_000])
def test_a_state_that_cannot_be_read_costs_a_download_only(server: FileServer, tmp_path: Path, state: str) -> None:
    publish(server, {"a/1/model.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    mirrored.refresh()
    (tmp_path / "state.json").write_text(state)
    assert mirrored.refresh() == ()
    assert held(mirrored.root) == {"a/1/model.onnx": MODEL}


@pytest.mark.parametrize("damage", [b"", b"shorter", MODEL[::-1]])
def test_a_file_that_was_changed_here_is_fetched_again(server: FileServer, tmp_path: Path, damage: bytes) -> None:
    publish(server, {"a/1/model.onnx": MODEL})
    mirrored = mirror(server, tmp_path)
    mirrored.refresh()
    path = mirrored.root / "a/1/model.onnx"
    path.write_bytes(damage)
    os.utime(path, ns=(1, 1))
    assert mirrored.refresh() == ()
    assert held(mirrored.root) == {"a/1/model.onnx": MODEL}
    path.unlink()
    assert mirrored.refresh() == ()
    assert held(mirrored.root) == {"a/1/model.onnx": MODEL}


def test_the_same_content_under_a_new_tag_leaves_the_file_alone(server: FileServer, tmp_path: Path) -> None:
    server.files["/m.onnx"] = MODEL
    server.has_etags = False
    server.headers["/m.onnx"] = {"Last-Modified": "Mon, 05 Jan 2026 10:00:00 GMT"}
    mirrored = mirror_of_file(server, tmp_path, "/m.onnx")
    assert mirrored.refresh() == ()
    before = mirrored.root.stat()
    server.headers["/m.onnx"] = {"Last-Modified": "Tue, 06 Jan 2026 10:00:00 GMT"}
    server.seen.clear()
    assert mirrored.refresh() == ()
    assert len(server.seen) == 2
    assert mirrored.root.stat() == before
    server.seen.clear()
    assert mirrored.refresh() == ()
    assert len(server.seen) == 1


def test_a_single_file_is_the_root_itself(server: FileServer, tmp_path: Path) -> None:
    server.files["/x/m.onnx"] = MODEL
    mirrored = mirror_of_file(server, tmp_path, "/x/m.onnx")
    assert mirrored.refresh({"other"}) == ()
    assert mirrored.root.read_bytes() == MODEL
    assert mirrored.root.name == "m.onnx"


def test_a_directory_may_become_a_file_and_a_file_a_directory(server: FileServer, tmp_path: Path) -> None:
    publish(server, {"a/1/model.onnx": MODEL, "b": MODEL})
    mirrored = mirror(server, tmp_path)
    mirrored.refresh()
    publish(server, {"a": b"file", "b/1": b"below"})
    assert mirrored.refresh() == ()
    assert held(mirrored.root) == {"a": b"file", "b/1": b"below"}


def test_the_root_may_become_a_file_and_a_directory_again(server: FileServer, tmp_path: Path) -> None:
    server.files["/repo"] = MODEL
    publish_to = {"a/1/model.onnx": MODEL}
    publish(server, publish_to)
    server.files["/repo"] = MODEL
    for _ in range(2):
        assert mirror(server, tmp_path).refresh() == ()
        assert held(tmp_path / "files" / "repo") == publish_to
        assert mirror_of_file(server, tmp_path, "/repo").refresh() == ()
        assert (tmp_path / "files" / "repo").read_bytes() == MODEL


def test_a_server_that_stops_says_so_and_the_next_one_goes_on(server: FileServer, tmp_path: Path) -> None:
    publish(server, {"a/1/model.onnx": MODEL})
    stopping = threading.Event()

    def stop_at_the_model(seen: Seen) -> None:
        if seen.path == "/r/a/1/model.onnx":
            stopping.set()

    server.wanted = stop_at_the_model
    stopped = mirror(server, tmp_path, stopping)
    problems = stopped.refresh()
    assert "a" in {problem.model for problem in problems}
    assert all("the server is stopping" in problem.message for problem in problems)
    assert held(stopped.root) == {}
    assert mirror(server, tmp_path).refresh() == ()
    assert held(stopped.root) == {"a/1/model.onnx": MODEL}


def test_an_interrupted_download_is_gone_on_with_by_the_next_server(server: FileServer, tmp_path: Path) -> None:
    server.files["/m.onnx"] = MODEL
    server.cut_after = [5_000] * 4
    (problem,) = mirror_of_file(server, tmp_path, "/m.onnx").refresh()
    assert "broke off" in problem.message or "too early" in problem.message
    server.seen.clear()
    mirrored = mirror_of_file(server, tmp_path, "/m.onnx")
    assert mirrored.refresh() == ()
    assert [seen.headers.get("range") for seen in server.seen] == ["bytes=0-0", "bytes=20000-"]
    assert mirrored.root.read_bytes() == MODEL


def test_two_processes_on_one_mirror_take_turns(server: FileServer, tmp_path: Path) -> None:
    publish(server, {f"m{number}/1/model.onnx": MODEL for number in range(8)})
    mirrors = [mirror(server, tmp_path) for _ in range(4)]
    outcomes: list[object] = []
    threads = [threading.Thread(target=lambda m=m: outcomes.append(m.refresh())) for m in mirrors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [()] * 4
    assert len(fetched(server)) == 8
    assert len(held(mirrors[0].root)) == 8


def test_a_place_that_cannot_be_written_is_told(server: FileServer, tmp_path: Path) -> None:
    publish(server, {"a/1/model.onnx": MODEL})
    (tmp_path / "file").write_text("")
    (problem,) = mirror(server, tmp_path / "file" / "home").refresh()
    assert problem.message == f"the mirror of {SHOWN} cannot be written: Not a directory"


def test_progress_is_logged(server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(server, {"a/1/model.onnx": MODEL})
    with caplog.at_level(logging.INFO):
        mirrored = mirror(server, tmp_path)
        mirrored.refresh()
        mirrored.refresh()
    begun, ended = [record.message for record in caplog.records]
    assert begun == f"fetching 2 files from {SHOWN}"
    assert ended.startswith(f"fetched 50.1 kB from {SHOWN} in ")
