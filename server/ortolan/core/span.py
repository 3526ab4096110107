"""A span as data, before any library's: what happened from when to when, below what, and what it has to do with."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ortolan.core.trace_context import TraceContext

Attributes = Mapping[str, str | int | bool]


class SpanEvent(NamedTuple):
    """Something that happened within a span, at a Unix time in nanoseconds."""

    name: str
    time_ns: int
    attributes: Attributes = MappingProxyType({})


class Span(NamedTuple):
    """One that has ended. Times are Unix times in nanoseconds."""

    name: str
    context: TraceContext
    parent: TraceContext | None
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: Sequence[SpanEvent] = ()
    links: Sequence[TraceContext] = ()
    is_server: bool = False
    """Whether it is a request of somebody else, and not a part of one."""
    error: str | None = None
    """Why it failed; None where it did not."""
    parent_is_remote: bool = False
