"""Serialized messages: in one piece, or, where they are large, in several that follow each other."""

Raw = bytes | memoryview
"""Bytes; of large ones perhaps a view of memory that holds them for another reason."""

Serialized = Raw | tuple[Raw, ...]
"""One in pieces has its tensors where the model has put them, so that nothing of it is copied before it is sent."""


def size_bytes(message: Serialized) -> int:
    return sum(map(len, message)) if isinstance(message, tuple) else len(message)


def in_one_piece(message: Serialized) -> bytes:
    """For who cannot do without."""
    return b"".join(message) if isinstance(message, tuple) else bytes(message)
