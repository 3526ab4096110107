"""Many clients that load and unload the same few models at random, while others ask them."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from callers import Reply, ask, rest_body, row
from server_process import ServerProcess, eventually

# A model that is just going, or gone, cannot answer; anything else is a fault.
_FINE = (200, 400, 404, 503)


@dataclass
class Soak:
    """What the clients got."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def soak(server: ServerProcess, models: Sequence[str], seconds: float, clients: int = 8) -> Soak:
    """Load, unload and ask ``models`` from so many threads; then check that the last command decides for each."""
    result = Soak()
    end = time.monotonic() + seconds

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            _step(server, chance.choice(models), chance.choice(("load", "load", "unload", "infer", "force")), result)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    _check_last_command(server, models, result)
    return result


def _step(server: ServerProcess, model: str, action: str, result: Soak) -> None:
    if action == "infer":
        reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
        fine = reply.status in _FINE and (reply.status != 200 or _is_right(model, reply))
    else:
        body = {"parameters": {"force": True}} if action == "force" else {}
        command = "unload" if action == "unload" else "load"
        reply = ask(server, "POST", f"/v2/repository/models/{model}/{command}", body)
        # A load may find that it was undone before it was answered, but never that it failed.
        fine = reply.status == 200
    result.statuses[action, reply.status] += 1
    if not fine:
        result.faults.append(f"{action} {model}: {reply.status} {reply.body[:300]!r}")


def _is_right(model: str, reply: Reply) -> bool:
    """Models are called by what they add to nothing, as in ``m3``, where they end in a number."""
    number = model.lstrip("abcdefghijklmnopqrstuvwxyz_")
    return not number.isdecimal() or reply.array.tolist() == row(float(number)).tolist()


def _check_last_command(server: ServerProcess, models: Sequence[str], result: Soak) -> None:
    for action, wanted in (("unload", "UNAVAILABLE"), ("load", "READY"), ("unload", "UNAVAILABLE")):
        for model in models:
            _step(server, model, action, result)
        expected = dict.fromkeys(models, wanted)
        eventually(lambda expected=expected: _states(server, models) == expected)
        ready = {model: ask(server, "GET", f"/v2/models/{model}/ready").status == 200 for model in models}
        if ready != dict.fromkeys(models, wanted == "READY"):
            result.faults.append(f"after {action}: {ready}")


def _states(server: ServerProcess, models: Sequence[str]) -> dict[str, str]:
    entries = ask(server, "POST", "/v2/repository/index").json
    return {each["name"]: each.get("state", "") for each in entries if each["name"] in models}
