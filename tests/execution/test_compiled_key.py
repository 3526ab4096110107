"""What makes a compiled model another one."""

from dataclasses import replace

import pytest

from ortolan.execution.compiled_key import CompiledKey, options_of, processor_of
from ortolan.execution.session_settings import SessionSettings

KEY = CompiledKey("ab" * 32, "1.31.1 build", "flags: avx2", ("CPUExecutionProvider",), "options")
SETTINGS = SessionSettings(config_entries={"a": "1", "b": "2"})
CPUINFO = """processor\t: 0
model name\t: Some Processor
cpu MHz\t\t: 2445.404
flags\t\t: fpu avx2

processor\t: 1
model name\t: Some Processor
cpu MHz\t\t: 1996.249
flags\t\t: fpu avx2
"""


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model_sha256="cd" * 32),
        replace(KEY, runtime="1.31.1 other build"),
        replace(KEY, processor="flags: avx2 avx512f"),
        replace(KEY, providers=("XnnpackExecutionProvider", "CPUExecutionProvider")),
        replace(KEY, options="other options"),
    ],
)
def test_everything_in_a_key_tells(other: CompiledKey) -> None:
    assert other.name != KEY.name


@pytest.mark.parametrize(
    "other",
    [
        replace(SETTINGS, graph_level=1),
        replace(SETTINGS, parallel_execution=True),
        replace(SETTINGS, intra_op_threads=2),
        replace(SETTINGS, config_entries={"a": "1"}),
        replace(SETTINGS, config_entries={"a": "1", "b": "3"}),
    ],
)
def test_options_of_the_graph_tell(other: SessionSettings) -> None:
    assert options_of(other) != options_of(SETTINGS)


@pytest.mark.parametrize(
    "same",
    [
        replace(SETTINGS, max_execution_s=3.0),
        replace(SETTINGS, arena_shrinkage="cpu:0"),
        replace(SETTINGS, allow_fallback=True),
        replace(SETTINGS, config_entries={"b": "2", "a": "1"}),
    ],
)
def test_options_that_leave_the_graph_alone_do_not_tell(same: SessionSettings) -> None:
    assert options_of(same) == options_of(SETTINGS)


def test_a_processor_is_the_same_at_another_clock_and_with_more_cores() -> None:
    one_core = CPUINFO.partition("\n\n")[0].replace("2445", "3000")
    assert processor_of(one_core) == processor_of(CPUINFO)


def test_a_processor_with_other_instructions_is_another() -> None:
    assert processor_of(CPUINFO.replace("avx2", "avx2 avx512f")) != processor_of(CPUINFO)


def test_a_system_that_tells_nothing_has_no_processor() -> None:
    assert processor_of("processor\t: 0\nBogoMIPS\t: 50\n") == ""
