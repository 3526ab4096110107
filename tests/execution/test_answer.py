"""What the operator is told of a request that failed inside its model."""

import logging

import pytest

from ortolan.errors import Internal
from ortolan.execution.answer import log_failure


def failure() -> Internal:
    error = Internal("what the client is told")
    error.__cause__ = RuntimeError("node 'n':\nno memory")
    return error


@pytest.mark.parametrize(
    ("request_id", "line"),
    [
        ("", r"model 'm' version 2 failed to run request: RuntimeError: node 'n':\nno memory"),
        ("a\nb", r"model 'm' version 2 failed to run request 'a\nb': RuntimeError: node 'n':\nno memory"),
    ],
)
def test_it_is_told_in_one_line(caplog: pytest.LogCaptureFixture, request_id: str, line: str) -> None:
    caplog.set_level(logging.INFO)
    log_failure(failure(), "m", "2", request_id)
    assert caplog.messages == [line]
    assert caplog.records[0].exc_info is None


def test_where_it_failed_is_told_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    # A server that ran in this process may have set the level of what is ours.
    caplog.set_level(logging.DEBUG, logger="ortolan")
    log_failure(failure(), "m", "2", "")
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [
        ("ERROR", False),
        ("DEBUG", True),
    ]


def test_a_failure_that_the_server_foresaw_is_the_clients_only(caplog: pytest.LogCaptureFixture) -> None:
    log_failure(Internal("its outputs have different shapes"), "m", "1", "")
    assert not caplog.records
