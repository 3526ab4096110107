"""What clients see of a model that adds a number, while its files change."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from callers import ask, rest_body, row
from server_process import ServerProcess, eventually


def added(server: ServerProcess, model: str) -> float | None:
    """What the model (an ``adder``) adds to 0; None while it is not served."""
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
    return float(reply.array.flat[0]) if reply.status == 200 else None


def becomes(server: ServerProcess, model: str, value: float | None) -> None:
    """Return once the model adds ``value``."""
    eventually(lambda: added(server, model) == value)


@contextmanager
def hammered(server: ServerProcess, model: str) -> Iterator[list[float | None]]:
    """The answers that clients get all the while, None for each that failed."""
    seen: list[float | None] = []
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            seen.append(added(server, model))

    clients = [threading.Thread(target=client) for _ in range(2)]
    for each in clients:
        each.start()
    try:
        yield seen
    finally:
        over.set()
        for each in clients:
            each.join()
