"""Lines of a request's head that are others in each request, and say nothing about what it asks. Pure."""

import re
from collections.abc import Collection

from ortolan.core.trace_context import PARENT, STATE
from ortolan.frontends.rest.noted import REQUEST_ID_HEADER

CALLERS_SPAN = (PARENT.encode(), STATE.encode())
"""The headers that say in which span a request was sent."""
_LONGEST = {REQUEST_ID_HEADER: 128, **dict.fromkeys(CALLERS_SPAN, 512)}
_LINES = {
    name: (
        b"\r\n%b:" % name,
        re.compile(rb"[ \t]*([!-~](?:[ -~]{0,%d}[!-~])?)[ \t]*(?=\r\n[^ \t]|\Z)" % (longest - 2)),
    )
    for name, longest in _LONGEST.items()
}


def without_lines(head: bytes, names: Collection[bytes]) -> tuple[bytes, bytes | None] | None:
    """A request's head, as it was sent, without its headers ``names``, and its id, if that is one of them.

    ``names`` are of the request's id and of ``CALLERS_SPAN``. None where the head has one of them several times, or
    otherwise than plainly. What is left out is a whole line, behind the request's, that every parser takes for this
    header and for nothing else.
    """
    lower, sent_id = head.lower(), None
    cuts = []
    for name in names:
        begin, line = _LINES[name]
        at = lower.find(begin)
        if at < 0:
            continue
        found = line.match(head, at + len(begin))
        if not at or found is None or lower.find(begin, at + 1) >= 0:
            return None
        cuts.append((at, found.end()))
        if name == REQUEST_ID_HEADER:
            sent_id = found[1]
    for at, end in sorted(cuts, reverse=True):
        head = head[:at] + head[end:]
    return head, sent_id
