"""Where the server of this environment listens, without reading all of its settings, which takes 0.3 s.

What is read here a test compares with ``settings/``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ortolan.commands.address import GRPC_PORT, HTTP_PORT, METRICS_PORT, Address
from ortolan.errors import StartupError
from ortolan.hosting.contract import Files, Surroundings
from ortolan.hosting.detection import AUTOMATIC, hosting_of
from ortolan.hosting.runtime_flags import FIELD_OF_FLAG, hyphenated, with_ports

_PREFIX = "ORTOLAN_"
_TRUE = frozenset(("1", "true", "t", "yes", "y", "on"))
_LOOPBACK = "127.0.0.1"
_ALL_ADDRESSES = {"": _LOOPBACK, "0.0.0.0": _LOOPBACK, "::": "::1"}  # noqa: S104 - nobody listens here
_REPOSITORY_FIELDS = ("model_repository", "model_store")
# The processes of a container have numbers of their own; the first is what the container is there for.
_FIRST_PROCESS = "/proc/1/cmdline"


class OwnServer(NamedTuple):
    """Each port as it is reached from the same machine; None where the server does not listen there."""

    http: Address | None
    grpc: Address | None
    metrics: Address | None
    wants_certificates: bool
    """Whether clients over HTTP have to show one."""
    grpc_wants_certificates: bool
    certificate: str
    key: str
    """The server's own certificate and its key, as PEM files; "" without TLS."""


def own_server(arguments: Sequence[str], environment: Mapping[str, str], files: Files) -> OwnServer:
    """What a server started with ``arguments`` in ``environment`` listens on. Raises StartupError for wrong ports."""
    given = {**_variables(environment), **_flags(arguments)}
    surroundings = Surroundings(environment, files, any(name in given for name in _REPOSITORY_FIELDS))
    hosting = hosting_of(surroundings, given.get("hosting", AUTOMATIC))
    return _described(_Texts({**(hosting.settings if hosting else {}), **given}))


def arguments_of_the_server() -> list[str]:
    """Those of the server that this container runs, behind ``serve``; none where its first process is another."""
    try:
        with open(_FIRST_PROCESS, "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return []
    return arguments_behind_serve(words)


def arguments_behind_serve(words: Sequence[str]) -> list[str]:
    """What a command line such as ``python /bin/ortolan serve …`` gives the server; nothing of another program's."""
    for at, word in enumerate(words[:-1]):
        if word.rpartition("/")[2] in ("ortolan", "__main__.py") and words[at + 1] == "serve":
            return [each for each in words[at + 2 :] if each]
    return []


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """By field name; an empty one is as good as none."""
    named = ((name, text.strip()) for name, text in environment.items() if name.startswith(_PREFIX))
    return {name[len(_PREFIX) :].lower(): text for name, text in named if text}


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """By field name, as argparse has them: a flag without ``=`` takes the next word, unless that is a flag as well."""
    found: dict[str, str] = {}
    awaiting = ""
    for argument in hyphenated(arguments):
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            field = FIELD_OF_FLAG.get(flag) or flag[2:].replace("-", "_")
            # A switch that stands alone is true.
            found[field] = value if equals else "true"
            awaiting = "" if equals else field
        else:
            found[awaiting or "model_repository"] = argument.strip()
            awaiting = ""
    return with_ports(found)


class _Texts:
    """Settings by field name, as texts."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def text(self, name: str, default: str = "") -> str:
        return self._texts.get(name) or default

    def switch(self, name: str, default: bool) -> bool:
        return self.text(name, str(default)).lower() in _TRUE

    def port(self, name: str, default: int) -> int:
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdecimal() and int(text[:6]) < 1 << 16):
            raise StartupError(f"{_PREFIX}{name.upper()}={text} names no port to ask; give the server's URL")
        return int(text)

    def address(self, name: str, default: str = _LOOPBACK) -> str:
        text = self.text(name, default)
        return _ALL_ADDRESSES.get(text, text)


def _described(told: _Texts) -> OwnServer:
    certificate = told.text("tls_certificate")
    own_grpc_tls = told.switch("grpc_use_ssl", False) or told.switch("grpc_use_ssl_mutual", False)
    mutual = bool(told.text("tls_client_ca")) and told.text("tls_client_certificates", "required") == "required"
    http = grpc = metrics = None
    http_host = told.address("http_address")
    if told.switch("allow_http", True):
        http = Address(http_host, told.port("http_port", HTTP_PORT), bool(certificate))
    if told.switch("allow_grpc", True):
        port = told.port("grpc_port", GRPC_PORT)
        grpc = Address(told.address("grpc_address"), port, bool(certificate) or own_grpc_tls)
    metrics_port = told.port("metrics_port", METRICS_PORT)
    if told.switch("allow_metrics", True):
        metrics = Address(told.address("metrics_address", http_host), metrics_port)
    grpc_mutual = told.switch("grpc_use_ssl_mutual", False) if own_grpc_tls else mutual
    return OwnServer(http, grpc, metrics, mutual, grpc_mutual, certificate, told.text("tls_key"))
