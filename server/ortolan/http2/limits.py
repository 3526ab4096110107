"""How much one connection may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Sizes are bytes.

    ``header_list_bytes``: names, values and 32 for each field, as RFC 9113 counts them; a request above it is refused,
    and one above four times as much ends the connection, as do more than ``header_block_bytes`` in compressed form.
    ``connection_window`` is not less than the 65,535 that there are without a word. For ``calm_budget`` and
    ``calm_per_s`` see ``flood_guard``.
    """

    concurrent_streams: int = 1024
    stream_window: int = 1 << 20
    connection_window: int = 16 << 20
    frame_bytes: int = 1 << 20
    header_list_bytes: int = 16_384
    header_block_bytes: int = 65_536
    continuations: int = 16
    calm_budget: int = 1000
    calm_per_s: int = 500
