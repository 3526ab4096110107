"""A wall clock that jumps by a day while the server serves: nothing that is timed goes by it.

The clock is a library that is loaded before all others and adds to the time of day what stands in a file. The times
that the kernel writes to files stay as they are, as they do after a real jump.
"""

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import onnx_sequences
import pytest
import tritonclient.grpc
from callers import ask, rest_body, row
from server_process import ServerProcess, eventually, running

DAY_S = 86_400
DELAY_S = 0.2
LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long *ahead;

static long seconds_ahead(void) {
  if (!ahead) {
    int file = open(getenv("SECONDS_AHEAD"), O_RDONLY);
    ahead = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
  }
  return *ahead;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += seconds_ahead();
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec precise;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (now) *now = precise.tv_sec;
  return precise.tv_sec;
}
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs a linker as Linux has it, and a C compiler"
)


class Clock:
    """The time of day as the server sees it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_bytes(struct.pack("l", 0))

    def jump(self, seconds: int) -> None:
        """Let the clock be so far ahead of the real one from now on; the file is mapped and is written in place."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("l", seconds))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    onnx_models.save_version(root, "m", onnx_models.adder(1))
    delay = f"preferred_batch_size: 8 max_queue_delay_microseconds: {DELAY_S * 1e6:.0f}"
    delayed = f"max_batch_size: 8 dynamic_batching {{ {delay} }}"
    onnx_models.save_version(root, "delayed", onnx_models.adder(1), config=delayed)
    onnx_models.save_version(root, "endless", onnx_models.slow_as_asked(), config="max_batch_size: 1")
    idle = f"max_sequence_idle_microseconds: 60000000 {onnx_sequences.SUM}"
    onnx_models.save_version(root, "sums", onnx_sequences.accumulator(), config=onnx_sequences.block(idle))
    return root


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "ahead")


@pytest.fixture(scope="module")
def server(root: Path, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("library")
    (folder / "clock.c").write_text(LIBRARY)
    built = ["cc", "-shared", "-fPIC", "-O1", "-o", "clock.so", "clock.c", "-ldl"]
    subprocess.run(built, cwd=folder, check=True, timeout=60)
    environment = {"LD_PRELOAD": str(folder / "clock.so"), "SECONDS_AHEAD": str(clock.file)}
    flags = ("--model-control-mode=poll", "--repository-poll-secs=0.1", "--repository-quiet-secs=0.1")
    with running(
        root, *flags, "--max-execution-secs=0.5", "--calibration-cache=none", environment=environment
    ) as server:
        yield server


def added(server: ServerProcess, model: str = "m") -> float:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
    assert reply.status == 200, reply.body
    return float(reply.array.flat[0])


def summed(server: ServerProcess, **terms: Any) -> float:
    body = rest_body(np.ones((1, 1), np.float32), parameters={"sequence_id": 7, **terms})
    reply = ask(server, "POST", "/v2/models/sums/infer", body)
    assert reply.status == 200, reply.body
    return float(reply.array.flat[0])


def seconds(what: Any) -> float:
    start = time.monotonic()
    what()
    return time.monotonic() - start


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, 0], ids=["ahead", "back", "and right again"])
def test_after_a_jump_of_the_clock_everything_takes_as_long_as_before(
    server: ServerProcess, root: Path, clock: Clock, jump_s: int
) -> None:
    assert summed(server, sequence_start=True) == 1
    clock.jump(jump_s)
    assert summed(server) == 2, "the sequence was not idle for too long"
    # A queue's delay, a limit of executions, a deadline.
    assert DELAY_S * 0.9 < seconds(lambda: added(server, "delayed")) < 5
    endless = rest_body(row(1e9))
    assert ask(server, "POST", "/v2/models/endless/infer", endless).status == 504
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(row())
        assert client.infer("m", [tensor], client_timeout=20).as_numpy("y") is not None
    # Following the repository, also what is written within a tick of what is there.
    for value in (2, 3, 1):
        os.replace(
            onnx_models.save(onnx_models.adder(value), root / "m" / "1" / ".new"), root / "m" / "1" / "model.onnx"
        )
        eventually(lambda value=value: added(server) == value)
    inferred = ask(server, "GET", "/v2/models/m/stats").json["model_stats"][0]["last_inference"]
    assert abs(inferred / 1000 - (time.time() + jump_s)) < 60, "the time that is shown is the clock's"
    assert summed(server, sequence_end=True) == 3
