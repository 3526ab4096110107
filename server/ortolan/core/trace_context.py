"""W3C Trace Context: where a request belongs in its client's trace, and the headers that say so. Pure.

``traceparent`` and ``tracestate`` come in as https://www.w3.org/TR/trace-context/ has them, ``traceresponse`` goes out
as its second level does. What is not valid is as if it were not there: a client's mistake costs it the connection of
two traces, never its request.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PARENT = "traceparent"
STATE = "tracestate"
RESPONSE = "traceresponse"

SAMPLED = 0x01
RANDOM = 0x02
"""That the trace's id is random: a flag of the second level, which is handed on."""

# A version other than the first may have more behind what the first has; 255 is no version.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FIRST_VERSION = "00"
_MOST_MEMBERS = 32
_LONGEST_STATE = 8192
_KEY = r"[a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rf"(?P<key>{_KEY})=(?P<value>{_VALUE})")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span's place: its trace, itself, and what is handed on with them. Neither id is 0."""

    trace_id: int
    span_id: int
    flags: int = SAMPLED
    state: tuple[tuple[str, str], ...] = ()
    """Keys and values of other tracing systems, in their order."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def trace_text(self) -> str:
        """The trace's id as people and their tools write it: 32 hexadecimal digits."""
        return f"{self.trace_id:032x}"

    @property
    def header(self) -> str:
        """The value of a ``traceparent`` or ``traceresponse``."""
        return f"{_FIRST_VERSION}-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    def child(self, span_id: int) -> "TraceContext":
        """The context of a span below this one; it is sampled."""
        return TraceContext(self.trace_id, span_id, self.flags | SAMPLED, self.state)


def context_of(headers: Iterable[tuple[str, str]]) -> TraceContext | None:
    """What ``headers``, with their names in lower case, say of the caller's span; None without a valid one.

    Several ``traceparent`` are as none, since nobody can tell which is meant; several ``tracestate`` are one.
    """
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name == PARENT:
            parents.append(value)
        elif name == STATE:
            states.append(value)
    return read_context(parents, states) if parents else None


def read_context(parents: Sequence[str], states: Sequence[str] = ()) -> TraceContext | None:
    """The context of these values of ``traceparent`` and ``tracestate``; None where it is not valid."""
    if len(parents) != 1:
        return None
    found = _TRACEPARENT.fullmatch(parents[0].strip(" \t"))
    if found is None or (found[1] == _FIRST_VERSION and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not (trace_id and span_id):
        return None
    # Flags that this version does not know mean nothing, and are not handed on.
    return TraceContext(trace_id, span_id, int(found[4], 16) & (SAMPLED | RANDOM), read_state(states))


def read_state(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The members of ``tracestate``; none where one of them is not valid, which leaves ``traceparent`` as it is."""
    if not texts or sum(map(len, texts)) > _LONGEST_STATE:
        return ()
    members: dict[str, str] = {}
    for text in ",".join(texts).split(","):
        member = text.strip(" \t")
        if not member:
            continue
        found = _MEMBER.fullmatch(member)
        if found is None or found["key"] in members:
            return ()
        members[found["key"]] = found["value"]
    return tuple(members.items()) if len(members) <= _MOST_MEMBERS else ()
