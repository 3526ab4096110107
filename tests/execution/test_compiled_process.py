"""Compiling apart: a process of the lowest priority, whose end, however it comes, is not the server's."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx_models
import pytest
from server_process import eventually

from ortolan.execution.compiled_entry import CompiledModel, Refusal, read_entry
from ortolan.execution.compiled_job import CompileJob
from ortolan.execution.compiled_process import Making, Outcome, compile_apart
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository import config_completion
from ortolan.repository.config_completion import CompletionDefaults

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

KEY = "the key"
LIMIT_S = 60.0


@pytest.fixture
def job(tmp_path: Path) -> CompileJob:
    model = onnx_models.save(onnx_models.perceptron(), tmp_path / "original" / "model.onnx")
    (tmp_path / "entry").mkdir()
    config = config_completion.complete_instance_groups(config_completion.default_config("model"), CompletionDefaults())
    return CompileJob(model, tmp_path / "entry", KEY, config, tmp_path, SessionSettings(), CompletionDefaults())


@pytest.fixture
def long_job(job: CompileJob) -> CompileJob:
    """One that takes seconds."""
    onnx_models.save(onnx_models.chain(20_000), job.model)
    return job


def children_of(pid: int, folder: Path) -> list[int]:
    """The processes that ``pid`` started and that work in ``folder``."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and (path / "cwd").readlink() == folder:
                found.append(int(path.name))
        except OSError:
            continue
    return found


@contextmanager
def under_way(job: CompileJob) -> Iterator[tuple[int, list[Making]]]:
    """The process that does the job; afterwards how it went."""
    makings: list[Making] = []
    thread = threading.Thread(target=lambda: makings.append(compile_apart(job, os.environ, LIMIT_S)))
    thread.start()
    try:
        yield eventually(lambda: children_of(os.getpid(), job.folder))[0], makings
    finally:
        thread.join(LIMIT_S)
    assert not children_of(os.getpid(), job.folder)


def test_a_model_is_compiled_with_nothing_else_left_behind(job: CompileJob) -> None:
    assert compile_apart(job, os.environ, LIMIT_S) == Making(Outcome.DESCRIBED)
    assert isinstance(read_entry(job.folder, KEY), CompiledModel)
    assert {path.name for path in job.folder.iterdir()} <= {"model.onnx", "weights.bin", "entry.json", "stamp.json"}


def test_it_stands_back_for_others(long_job: CompileJob) -> None:
    with under_way(long_job) as (pid, _):
        eventually(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19)
        eventually(lambda: os.sched_getscheduler(pid) == os.SCHED_BATCH)
        os.kill(pid, signal.SIGKILL)


def test_it_is_told_no_secrets(long_job: CompileJob) -> None:
    os.environ["ORTOLAN_TEST_KEY"] = "unknown"
    try:
        with under_way(long_job) as (pid, _):
            eventually(lambda: b"compiled_maker" in Path(f"/proc/{pid}/cmdline").read_bytes())
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            os.kill(pid, signal.SIGKILL)
    finally:
        del os.environ["ORTOLAN_TEST_KEY"]
    assert b"TEST_KEY" not in environment


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_a_crash_over_the_model_itself_is_told(long_job: CompileJob, number: signal.Signals) -> None:
    with under_way(long_job) as (pid, makings):
        os.kill(pid, number)
    assert makings == [Making(Outcome.CRASHED, number.name)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_to_be_ended_by_somebody_is_no_crash(long_job: CompileJob, number: signal.Signals) -> None:
    with under_way(long_job) as (pid, makings):
        os.kill(pid, number)
    assert [making.outcome for making in makings] == [Outcome.FAILED]


def test_a_crash_over_what_was_written_is_a_refusal(long_job: CompileJob) -> None:
    with under_way(long_job) as (pid, makings):
        eventually((long_job.folder / "survived").exists, LIMIT_S)
        os.kill(pid, signal.SIGSEGV)
    assert makings == [Making(Outcome.DESCRIBED)]
    entry = read_entry(long_job.folder, KEY)
    assert isinstance(entry, Refusal)
    assert "SIGSEGV" in entry.reason


def test_one_that_takes_too_long_is_ended(long_job: CompileJob) -> None:
    assert compile_apart(long_job, os.environ, 0.1).outcome is Outcome.FAILED
    assert not children_of(os.getpid(), long_job.folder)


def test_a_model_that_cannot_be_loaded_says_why(job: CompileJob) -> None:
    job.model.write_bytes(b"no model")
    making = compile_apart(job, os.environ, LIMIT_S)
    assert making.outcome is Outcome.FAILED
    assert "cannot load model" in making.text


def test_it_ends_with_its_server_and_takes_its_work_along(long_job: CompileJob) -> None:
    program = "import sys; from ortolan.execution.compiled_process import *\n" + (
        "compile_apart(CompileJob.from_line(sys.stdin.readline()), {}, 60.0)"
    )
    server = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True)
    try:
        assert server.stdin is not None
        server.stdin.write(long_job.to_line())
        server.stdin.flush()
        pid = eventually(lambda: children_of(server.pid, long_job.folder))[0]
        eventually(lambda: b"compiled_maker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    finally:
        server.kill()
        server.communicate(timeout=10)
    eventually(lambda: not long_job.folder.exists())
    eventually(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie that nobody has taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_directory_that_is_gone_is_an_error_of_the_system(job: CompileJob) -> None:
    with pytest.raises(OSError, match="No such file"):
        compile_apart(replace(job, folder=job.folder / "gone"), os.environ, LIMIT_S)
