"""What ``HttpConnection`` and ``InferenceCycle`` take for granted of uvicorn, said before a new version breaks it."""

import ast
import asyncio
import inspect
import textwrap
import tomllib
from pathlib import Path

import httptools
import pytest
import uvicorn
from http_doors import LONGEST_S, until
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ortolan.frontends.http_server import HttpServer
from ortolan.frontends.rest.bounded_connection import bounded_protocol
from ortolan.frontends.rest.http_bounds import HttpBounds
from ortolan.frontends.rest.http_connection import HttpConnection
from ortolan.frontends.rest.inference_cycle import InferenceCycle

HELP = (
    f"uvicorn {uvicorn.__version__} differs from what rest/http_connection.py is written for: compare its "
    "protocols/http/httptools_impl.py with that file before the range in pyproject.toml is widened"
)

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

OVERRIDDEN = {"on_headers_complete", "on_body", "on_message_complete", "data_received", "on_header"}
"""Callbacks that never come to uvicorn while an ``InferenceCycle`` is the connection's cycle."""
CYCLE_NAMES = {"cycle", "existing_cycle"}


def methods_of_uvicorn() -> dict[str, ast.FunctionDef]:
    source = textwrap.dedent(inspect.getsource(HttpToolsProtocol))
    (cls,) = ast.parse(source).body
    assert isinstance(cls, ast.ClassDef)
    return {node.name: node for node in cls.body if isinstance(node, ast.FunctionDef)}


def read_of_cycles(method: ast.FunctionDef) -> set[str]:
    """The attributes of a cycle, ``self.cycle`` or ``cycle``, that a method uses."""
    found = set()
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if name in CYCLE_NAMES:
                found.add(node.attr)
    return found


def test_an_inference_cycle_has_all_that_uvicorn_uses_of_its_own() -> None:
    used = set().union(*(read_of_cycles(node) for name, node in methods_of_uvicorn().items() if name not in OVERRIDDEN))
    assert {"response_complete", "disconnected", "keep_alive", "message_event", "run_asgi"} <= used, HELP
    assert not [name for name in used if not hasattr(InferenceCycle, name)], HELP


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("__init__", ["self", "config", "server_state", "app_state", "_loop"]),
        ("on_headers_complete", ["self"]),
        ("on_body", ["self", "body"]),
        ("on_message_complete", ["self"]),
        ("on_response_complete", ["self"]),
        ("on_message_begin", ["self"]),
        ("on_header", ["self", "name", "value"]),
        ("data_received", ["self", "data"]),
        ("connection_made", ["self", "transport"]),
        ("timeout_keep_alive_handler", ["self"]),
        ("_start_asgi_task", ["self", "cycle", "app"]),
        ("connection_lost", ["self", "exc"]),
        ("eof_received", ["self"]),
        ("pause_writing", ["self"]),
        ("resume_writing", ["self"]),
        ("_unset_keepalive_if_required", ["self"]),
    ],
)
def test_the_methods_that_are_overridden_or_called_are_there(name: str, parameters: list[str]) -> None:
    assert [*inspect.signature(getattr(HttpToolsProtocol, name)).parameters] == parameters, HELP


async def test_a_connection_has_what_is_read_of_it() -> None:
    config = uvicorn.Config(lambda: None, http="httptools", ws="none", lifespan="off", log_config=None)
    connection = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    names = ("app", "cycle", "flow", "headers", "limit_concurrency", "loop", "parser", "pipeline", "server_state")
    assert not [name for name in (*names, "tasks", "transport") if not hasattr(connection, name)], HELP
    connection.on_message_begin()
    assert (connection.url, connection.headers, connection.expect_100_continue) == (b"", [], False), HELP
    assert connection.server_state.default_headers == [], HELP
    assert connection.scope["headers"] is connection.headers, HELP
    ours = {"_bounds", "_part", "_turn", "_unparsed", "_fault", "_last_words", "_expected", "_headlike_bytes", "_clock"}
    ours |= {"_body_came", "_told_bytes", "_service", "_inference", "_unheard"}
    assert not set(vars(connection)) & ours, HELP


def test_a_flow_says_whether_writing_is_paused() -> None:
    assert inspect.iscoroutinefunction(FlowControl.drain), HELP
    assert "write_paused" in inspect.getsource(FlowControl.__init__), HELP


def test_a_request_that_was_sent_ahead_is_begun_by_running_its_cycle() -> None:
    source = inspect.getsource(httptools_impl.HttpToolsProtocol)
    assert "cycle.run_asgi(app)" in source, HELP
    assert "self.pipeline.appendleft((self.cycle, app))" in source, HELP
    assert "self.pipeline.pop()" in source, HELP


def test_the_parser_is_made_as_uvicorn_makes_it() -> None:
    """A large body leaves the connection with a new one."""
    source = inspect.getsource(HttpToolsProtocol.__init__)
    assert "httptools.HttpRequestParser(self)" in source, HELP
    assert source.count("set_dangerous_leniencies(lenient_data_after_close=True)") == 1, HELP
    assert issubclass(HttpConnection, HttpToolsProtocol)


def test_a_connection_that_is_not_decided_yet_can_stand_among_uvicorns() -> None:
    """``one_port/first_words.py`` is one of its connections until then, of which it knows only how to stop it."""
    stopping = inspect.getsource(uvicorn.Server.shutdown)
    assert "for connection in list(self.server_state.connections):\n            connection.shutdown()" in stopping, HELP
    assert "for server in self.servers:\n            server.close()" in stopping, HELP
    assert [*inspect.signature(HttpToolsProtocol.shutdown).parameters] == ["self"], HELP
    assert uvicorn.Config(lambda: None, log_config=None, timeout_keep_alive=7).timeout_keep_alive == 7, HELP


async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...


@pytest.mark.parametrize("protocol", [None, bounded_protocol(HttpBounds())])
async def test_no_port_falls_back_to_another_parser(protocol: type[asyncio.Protocol] | None) -> None:
    """h11, which uvicorn takes where httptools is missing, reads lengths and line ends otherwise."""
    server = HttpServer(nothing, "127.0.0.1", 0, "--http-port", 1, protocol)
    listening = asyncio.create_task(server.listen())
    async with asyncio.timeout(LONGEST_S):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await until(lambda: bool(server.server_state.connections))
    (connection,) = server.server_state.connections
    assert isinstance(connection, HttpToolsProtocol), HELP
    assert isinstance(connection.parser, httptools.HttpRequestParser), HELP
    writer.close()
    server.should_exit = True
    await asyncio.wait_for(listening, LONGEST_S)
    required = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    assert any(text.startswith("httptools>=") and ",<" in text for text in required)


def test_the_parser_is_strict_where_others_are_not() -> None:
    """Whoever parses before us may read these otherwise; none of them is a request here."""
    for sent in (
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX : a\r\n\r\n",
    ):
        with pytest.raises(httptools.HttpParserError):
            httptools.HttpRequestParser(object()).feed_data(sent)
