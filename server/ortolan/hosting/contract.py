"""A platform's contract, what it sees of the server's surroundings, and what comes of it.

Tuples with names, because probes start every few seconds and ask for these: to import dataclasses takes 25 ms.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from ortolan.errors import StartupError

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - platforms reach a container from outside it
IMAGE_MODELS = "/models"
"""Where the image of this server expects what nobody says the place of."""

# What this server listens on for Prometheus, unless told otherwise.
_METRICS_PORT = "8002"
_LARGEST_PORT = 65535


class Files(Protocol):
    """What a contract may ask of the file system."""

    def is_directory(self, path: str) -> bool:
        """Whether a directory is there, be it by a symbolic link."""

    def names(self, path: str) -> Sequence[str]:
        """What is in the directory, but for hidden entries, in order; nothing where it cannot be read."""


class Surroundings(NamedTuple):
    """What a server finds when it starts.

    ``models_are_told``: a flag or an ``ORTOLAN_*`` variable says what is to be served. Signs that are also found away
    from their platform, such as a directory of a certain name, count only where nothing does: the server could not
    start otherwise, so that no other use of it changes.
    """

    environment: Mapping[str, str]
    files: Files
    models_are_told: bool = False


class Hosting(NamedTuple):
    """What a platform says of a server by its environment."""

    platform: str
    """As people call it."""
    settings: Mapping[str, str] = MappingProxyType({})
    """Texts by field name of Settings, as variables have them."""
    model_path: str = ""
    """What is served where no path is given."""


class Contract(NamedTuple):
    """One platform's. ``hosting`` is asked where ``is_meant`` says so, or where ``--hosting`` names the contract.

    ``hosting`` raises StartupError for a variable whose value cannot be meant.
    """

    name: str
    """As ``--hosting`` has it."""
    is_meant: Callable[[Surroundings], bool]
    hosting: Callable[[Surroundings], Hosting]


def port_of(environment: Mapping[str, str], variable: str, default: int) -> str:
    """The port that ``variable`` names. Raises StartupError when it names none."""
    text = environment.get(variable, "").strip()
    if not text:
        return str(default)
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= _LARGEST_PORT):
        raise StartupError(
            f"the environment variable {variable} must be a port from 1 to {_LARGEST_PORT}, got {text!r}; correct it, "
            "or leave it out of account with --hosting=none"
        )
    return text


def one_port(port: str) -> dict[str, str]:
    """The settings of a platform that reaches ``port`` alone: HTTP and gRPC on it, from everywhere."""
    settings = {
        "http_address": EVERY_ADDRESS,
        "grpc_address": EVERY_ADDRESS,
        "http_port": port,
        "grpc_port": port,
    }
    # It would be refused for both. /metrics is on the other port as well.
    return settings | ({"metrics_port": "0"} if port == _METRICS_PORT else {})


def is_true(text: str) -> bool:
    """Whether a platform's variable says yes, in any of the usual words."""
    return text.strip().lower() in ("true", "1", "yes", "on")
