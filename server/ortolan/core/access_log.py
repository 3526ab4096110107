"""The access log: notes of answered requests, kept by the event loop and written beside it by a thread."""

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import count

from ortolan.core.request_note import RequestNote

_log = logging.getLogger(__name__)

MOST_WAITING = 16_384
"""Notes that wait to be written; what comes while there are so many is lost."""
# What comes within this is written at once: the event loop wakes the thread so often at most.
_BATCH_S = 0.05
_TOLD_EVERY_S = 10.0
_CLOSING_S = 2.0
_MODEL_READY = re.compile(rb"/v2/models/[^/]+(?:/versions/[^/]+)?/ready")
_PROBES = frozenset(
    path.encode()
    for path in (
        "/v2/health/live /v2/health/ready /ping /metrics "
        "/inference.GRPCInferenceService/ServerLive /inference.GRPCInferenceService/ServerReady "
        "/inference.GRPCInferenceService/ModelReady /grpc.health.v1.Health/Check /grpc.health.v1.Health/Watch"
    ).split()
)

Write = Callable[[Sequence[RequestNote]], None]


class AccessLog:
    """Of one process. All but ``close`` is for the event loop."""

    def __init__(self, write: Write, kind: str, probes: Collection[str] = ()) -> None:
        """``kind``: "on" for every request but probes, "errors" for those of them that fail, "all" for every request.

        ``write`` is called in the thread. ``probes``: further paths that are asked over HTTP to see whether the server
        is there.
        """
        self._write = write
        self._only_errors = kind == "errors"
        self._probes = None if kind == "all" else _PROBES.union(path.encode() for path in probes)
        self._notes: deque[RequestNote] = deque()
        self._lost = 0
        self._told_lost = 0
        self._tell_at_s = 0.0
        self._awake = False
        self._came = threading.Event()
        self._closing = threading.Event()
        self._ids = count(1)
        self._id_prefix = os.urandom(8).hex()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def new_id(self) -> str:
        """An id for a request whose client gave it none: of this process and of no other, and in order."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    def add(self, note: RequestNote) -> None:
        """Have ``note`` written, if it is one of those that are."""
        if self._only_errors and not note.is_error:
            return
        if len(self._notes) >= MOST_WAITING:
            self._lost += 1
            return
        self._notes.append(note)
        if not self._awake:
            self._awake = True
            self._came.set()

    def close(self) -> None:
        """Return when everything is written, or after two seconds. Nothing may be added any more."""
        self._closing.set()
        self._came.set()
        self._thread.join(_CLOSING_S)

    # The thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._came.wait()
            self._came.clear()
            self._closing.wait(_BATCH_S)
            self._write_waiting()
            self._awake = False
            # What was added before that woke nobody.
            self._write_waiting()
            self._tell_lost()
        # What was added between the last look and the closing.
        self._write_waiting()
        self._tell_lost()

    def _write_waiting(self) -> None:
        notes = [self._notes.popleft() for _ in range(len(self._notes))]
        if self._probes is not None:
            notes = [note for note in notes if not self._is_probe(note, self._probes)]
        try:
            if notes:
                self._write(notes)
        # Whatever one note was, those that come later are to be written.
        except Exception:
            _log.exception("lines of the access log could not be written: %d", len(notes))

    @staticmethod
    def _is_probe(note: RequestNote, probes: Collection[bytes]) -> bool:
        path = note.target.partition(b"?")[0]
        return path in probes or _MODEL_READY.fullmatch(path) is not None

    def _tell_lost(self) -> None:
        now_s = time.monotonic()
        lost = self._lost
        if lost == self._told_lost or (now_s < self._tell_at_s and not self._closing.is_set()):
            return
        self._tell_at_s = now_s + _TOLD_EVERY_S
        _log.warning(
            "lines of the access log were lost, because they came faster than they could be written: %d so far", lost
        )
        self._told_lost = lost
