import argparse

import pytest

from ortolan.bench.load import Address, Form
from ortolan.bench.plan import Plan, add_arguments, address_of, plan_of
from ortolan.errors import StartupError


def plan(*arguments: str) -> Plan:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return plan_of(parser.parse_args(["m", *arguments]))


def test_without_flags_a_server_is_started_and_asked_in_every_form() -> None:
    found = plan()
    assert (found.http, found.forms, found.clients) == (None, tuple(Form), (1, 8, 32))


def test_a_running_server_is_asked_for_the_model_by_name() -> None:
    found = plan("--url=http://host:1", "--grpc-url=other")
    assert (found.named, found.http, found.grpc) == ("m", Address("host", 1), Address("other", 8001))


def test_grpc_is_left_out_of_a_running_server_without_its_address() -> None:
    assert plan("--url=host").forms == (Form.BINARY, Form.JSON)


def test_without_rates_there_is_no_open_loop() -> None:
    assert plan("--rates=").shares == ()


def test_shapes_may_have_colons_in_their_names() -> None:
    assert plan("--shape=serving:x:1,3").shapes == {"serving:x": (1, 3)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--forms=tcp"], "--forms: expected some of http, json, grpc, got 'tcp'"),
        (["--clients=0"], "--clients: expected a number above 0, got '0'"),
        (["--clients=,"], "--clients: expected at least one, got ','"),
        (["--clients="], "--clients: expected at least one"),
        (["--rows="], "--rows: expected at least one"),
        (["--rates=,"], "--rates: expected at least one"),
        (["--rows=x"], "--rows"),
        (["--rates=-1"], "--rates"),
        (["--rates=nan"], "--rates"),
        (["--seconds=0"], "--seconds"),
        (["--shape=1,2"], "--shape: expected INPUT:SIZE"),
        (["--url=https://host"], "encrypted connections cannot be measured"),
        (["--url=host:port"], "--url: expected HOST:PORT"),
        (["--grpc-url=host"], "--grpc-url needs --url"),
        (["--url=host", "--forms=grpc"], "gRPC of a running server needs --grpc-url"),
    ],
)
def test_wrong_flags_are_refused_by_name(arguments: list[str], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        plan(*arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", Address("a", 7)),
        ("a:1", Address("a", 1)),
        ("grpc://a:1/", Address("a", 1)),
        ("[::1]:2", Address("::1", 2)),
    ],
)
def test_addresses_are_hosts_with_or_without_a_port(text: str, expected: Address) -> None:
    assert address_of("--url", text, 7) == expected
