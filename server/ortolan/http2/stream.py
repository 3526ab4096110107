"""One stream: a request and its response."""

from collections import deque


class Stream:
    """What a connection keeps of an open stream. ``owner`` is whoever answers it."""

    __slots__ = (
        "declared",
        "effort",
        "id",
        "owner",
        "receive_window",
        "received",
        "receiving",
        "send_window",
        "sending",
        "sent",
        "taken",
        "trailers",
        "unsent",
        "unsent_bytes",
    )

    def __init__(self, stream_id: int, receive_window: int, send_window: int) -> None:
        self.id = stream_id
        self.owner: object = None
        self.receive_window = receive_window
        self.send_window = send_window
        self.declared: int | None = None
        """How many bytes the request's data have in all, where its fields say so."""
        self.effort = 0
        """What reading the request's fields cost (``flood_guard``)."""
        self.taken = 0
        """Bytes of data that came."""
        self.sent = 0
        """Bytes of data that were sent."""
        self.receiving = True
        self.sending = True
        self.received = 0
        """Bytes that were consumed since the client was last told that it may send as many more."""
        self.unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self.trailers: bytes | None = None
        """The block of fields that ends the stream once nothing is unsent."""
