import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.trace_context import TraceContext, context_of, read_context, read_state

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def context(flags: int = 1, state: tuple[tuple[str, str], ...] = ()) -> TraceContext:
    return TraceContext(int(TRACE, 16), int(SPAN, 16), flags, state)


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),  # of the second level: the id is random
        (f"00-{TRACE}-{SPAN}-ff", 3),  # flags that are not known mean nothing
        (f"00-{TRACE}-{SPAN}-08", 0),
        (f" \t{PARENT} ", 1),  # as HTTP allows around every value
        (f"01-{TRACE}-{SPAN}-01", 1),  # a later version, read as the first
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
    ],
)
def test_a_valid_parent_is_the_callers_span(parent: str, flags: int) -> None:
    found = read_context([parent])
    assert found == context(flags)
    assert found.sampled == bool(flags & 1)


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [""],
        ["00"],
        [f"00-{TRACE}-{SPAN}"],
        [f"ff-{TRACE}-{SPAN}-01"],  # no version
        [f"0-{TRACE}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{TRACE[:-1]}g-{SPAN}-01"],
        [f"00-{TRACE}0-{SPAN}-01"],
        [f"00_{TRACE}-{SPAN}-01"],
        [f"{PARENT}-more"],  # the first version ends there
        [f"01-{TRACE}-{SPAN}-01.more"],
        [f"01-{TRACE}-{SPAN}-01more"],
        [f"00-{TRACE}-{SPAN}-1"],
        [f"00-{TRACE}-{SPAN}-0x"],
        [f"00-{TRACE}-{SPAN}-01\n"],
        [PARENT, PARENT],  # nobody can tell which is meant
    ],
)
def test_what_is_not_valid_is_as_if_it_were_not_there(parents: list[str]) -> None:
    assert read_context(parents, ["a=1"]) is None


@pytest.mark.parametrize(
    ("texts", "members"),
    [
        (["a=1"], (("a", "1"),)),
        (["a=1,b=2"], (("a", "1"), ("b", "2"))),
        (["a=1", "b=2"], (("a", "1"), ("b", "2"))),  # several headers are one
        ([" a=1 ,\tb=2,,"], (("a", "1"), ("b", "2"))),
        (["tenant@system=x y:z"], (("tenant@system", "x y:z"),)),
        (["0a/b-c_d*=!"], (("0a/b-c_d*", "!"),)),
        (["", ","], ()),
        (["a"], ()),
        (["a=1,A=2"], ()),  # keys are lower case
        (["a=1,a=2"], ()),
        (["a=b=c"], ()),
        ([f"{'k' * 257}=1"], ()),
        ([f"a={'v' * 257}"], ()),
        (["a=ü"], ()),
        ([",".join(f"k{number}=1" for number in range(33))], ()),
        (["a=" + "v" * 9000], ()),
    ],
)
def test_the_state_of_other_systems_is_handed_on_or_dropped_as_a_whole(
    texts: list[str], members: tuple[tuple[str, str], ...]
) -> None:
    assert read_state(texts) == members
    assert read_context([PARENT], texts) == context(state=members)


def test_thirty_two_members_are_handed_on() -> None:
    assert len(read_state([",".join(f"k{number}=1" for number in range(32))])) == 32


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([("tracestate", "a=1")], None),
        ([("x", "y"), ("traceparent", PARENT)], context()),
        ([("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "b=2")], context(1, (("a", "1"), ("b", "2")))),
        ([("traceparent", PARENT), ("traceparent", PARENT)], None),
    ],
)
def test_the_headers_of_a_request_say_whose_it_is(headers: list[tuple[str, str]], found: TraceContext | None) -> None:
    assert context_of(headers) == found


def test_a_span_below_another_belongs_to_its_trace_and_is_sampled() -> None:
    child = context(2, (("a", "1"),)).child(5)
    assert (child.trace_id, child.span_id, child.flags, child.state) == (int(TRACE, 16), 5, 3, (("a", "1"),))
    assert child.trace_text == TRACE


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3), st.sampled_from([(), (("a", "1"),)]))
def test_what_is_written_is_read_as_the_same(trace_id: int, span_id: int, flags: int, state: tuple) -> None:
    written = TraceContext(trace_id, span_id, flags, state)
    texts = [f"{key}={value}" for key, value in state]
    assert read_context([written.header], texts) == written


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_no_text_whatever_is_more_than_ignored(parents: list[str], states: list[str]) -> None:
    read_context(parents, states)
