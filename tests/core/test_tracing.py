import json
from pathlib import Path
from typing import Any

import pytest

from ortolan.core.trace_settings import ALL_MODELS, TraceSettings
from ortolan.core.tracing import HTTP, FrontendTrace, Tracing
from ortolan.errors import InvalidArgument, StartupError
from ortolan.inference.request import InferenceRequest


def settings(path: Path, level: str = "TIMESTAMPS", **others: int) -> TraceSettings:
    return TraceSettings(level=(level,), **{"rate": 1, **others}, file=str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


def request_to(model: str, tracing: Tracing, request_id: str = "") -> bool:
    """Let one request pass, if tracing is on; whether it was traced."""
    if not tracing.on:
        return False
    with tracing.following(InferenceRequest(model, id=request_id), 1, None) as trace:
        return trace is not None


def traced(tracing: Tracing, requests: str) -> str:
    """Those of the requests, each to the model of one letter, that were traced."""
    return "".join(model if request_to(model, tracing) else "-" for model in requests)


def written(path: Path) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = json.loads(path.read_bytes())
    return objects


def test_nothing_is_traced_unless_the_operator_says_so(path: Path) -> None:
    for tracing in (Tracing(TraceSettings()), Tracing(TraceSettings(file=str(path)))):
        assert not tracing.on
        tracing.close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("rate", "count", "requests", "chosen"),
    [
        (1, -1, "mmmm", "mmmm"),
        (2, -1, "mmmmm", "-m-m-"),
        (3, -1, "mnmnmn", "--m--n"),  # those of all models are counted together
        (1, 2, "mmmm", "mm--"),
        (2, 1, "mmmmm", "-m---"),
        (1, 0, "mm", "--"),
    ],
)
def test_every_so_manieth_request_is_traced_until_the_count_is_used_up(
    path: Path, rate: int, count: int, requests: str, chosen: str
) -> None:
    tracing = Tracing(settings(path, rate=rate, count=count))
    assert traced(tracing, requests) == chosen
    tracing.close()


def test_the_count_that_is_told_is_what_is_left_and_at_its_end_tracing_is_off(path: Path) -> None:
    tracing = Tracing(settings(path, count=2))
    left = []
    while tracing.on:
        request_to("m", tracing)
        left.append(tracing.settings("m").count)
    assert left == [1, 0]
    assert tracing.settings(ALL_MODELS).count == 0
    tracing.close()


def test_a_change_counts_anew(path: Path) -> None:
    tracing = Tracing(settings(path, rate=3, count=1))
    assert traced(tracing, "mmmmmm") == "--m---"
    tracing.change(ALL_MODELS, {"trace_count": "2"})
    assert traced(tracing, "mmmmmmmmm") == "--m--m---"
    tracing.change(ALL_MODELS, {"trace_count": None})
    assert tracing.settings(ALL_MODELS).count == 1
    assert traced(tracing, "mmmm") == "--m-"
    tracing.close()


def test_no_change_counts_on(path: Path) -> None:
    tracing = Tracing(settings(path, rate=2))
    assert traced(tracing, "m") == "-"
    tracing.change(ALL_MODELS, {})
    assert traced(tracing, "m") == "m"
    tracing.close()


def test_a_model_with_settings_of_its_own_is_counted_by_itself(path: Path) -> None:
    tracing = Tracing(settings(path, rate=2))
    tracing.change("m", {"trace_rate": "3"})
    assert traced(tracing, "mnmnmnmn") == "---nm--n"
    # Those of all models change what a model has of its own only where it does not have it.
    tracing.change(ALL_MODELS, {"trace_rate": "1"})
    assert traced(tracing, "mnmn") == "-nmn"
    tracing.change(ALL_MODELS, {"trace_level": "OFF"})
    assert not tracing.on
    tracing.change("m", {"trace_level": "TENSORS"})
    assert traced(tracing, "mnmnmn") == "----m-"
    tracing.close()


def test_a_refused_change_changes_nothing(path: Path) -> None:
    tracing = Tracing(settings(path))
    before = tracing.settings("m")
    with pytest.raises(InvalidArgument):
        tracing.change("m", {"trace_rate": "2", "trace_count": "x"})
    assert tracing.settings("m") == before
    assert traced(tracing, "mm") == "mm"
    tracing.close()


@pytest.mark.parametrize("model", ["m", ALL_MODELS])
def test_without_a_file_tracing_cannot_be_switched_on(model: str) -> None:
    tracing = Tracing(TraceSettings())
    with pytest.raises(InvalidArgument) as refused:
        tracing.change(model, {"trace_level": ["TENSORS"], "trace_count": "5"})
    assert refused.value.message == (
        "trace file name is not given: start the server with --trace-config triton,file=PATH"
    )
    assert tracing.settings(model) == TraceSettings()
    tracing.change(model, {"trace_level": ["OFF"], "trace_rate": "7"})
    assert (tracing.settings(model).rate, tracing.on) == (7, False)
    tracing.close()


def test_an_operator_who_gives_a_level_and_no_file_is_told_that_nothing_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracing = Tracing(TraceSettings(level=("TIMESTAMPS",)))
    assert "nothing is traced: trace file name is not given: start the server with --trace-config" in caplog.text
    assert (tracing.settings("m").level, tracing.on) == (("TIMESTAMPS",), False)
    tracing.close()


def test_settings_of_models_that_are_gone_are_forgotten(path: Path) -> None:
    tracing = Tracing(settings(path, rate=2))
    for model in ("m", "n"):
        tracing.change(model, {"trace_rate": "1"})
    tracing.change(ALL_MODELS, {"trace_count": "50"})
    assert traced(tracing, "n") == "n"
    tracing.forget_others(lambda model: model == "n")
    assert [tracing.settings(model).rate for model in ("m", "n")] == [2, 1]
    assert (tracing.settings("m").count, tracing.settings("n").count) == (50, 49)
    tracing.close()


def test_a_file_that_cannot_be_written_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--trace-config triton,file: cannot write to"):
        Tracing(settings(tmp_path))


def names(objects: list[dict[str, Any]]) -> list[str]:
    return [each["timestamps"][0]["name"] for each in objects if "timestamps" in each]


def test_a_trace_without_a_frontend_ends_with_its_request(path: Path) -> None:
    tracing = Tracing(settings(path))
    request_to("m", tracing, "first")
    request_to("m", tracing)
    tracing.close()
    objects = written(path)
    assert [each["id"] for each in objects] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert objects[0] == {"id": 1, "model_name": "m", "model_version": 1, "request_id": "first"}
    assert names(objects[:4]) == ["REQUEST_START", "INFER_RESPONSE_COMPLETE", "REQUEST_END"]


def test_a_frontend_adds_when_it_received_and_sent(path: Path) -> None:
    tracing, frontend = Tracing(settings(path)), FrontendTrace(HTTP)
    frontend.received()
    with tracing.following(InferenceRequest("m"), 1, frontend):
        pass
    frontend.sending()
    frontend.sent()
    frontend.sent()  # as at the end of every request, whether its answer was sent to its end or not
    tracing.close()
    objects = written(path)
    assert names(objects) == [
        "HTTP_RECV_START",
        "HTTP_RECV_END",
        "REQUEST_START",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
        "HTTP_SEND_START",
        "HTTP_SEND_END",
    ]
    times = [each["timestamps"][0]["ns"] for each in objects[1:]]
    assert times == sorted(times)


def test_a_request_that_fails_is_traced_to_its_failure(path: Path) -> None:
    tracing, frontend = Tracing(settings(path)), FrontendTrace(HTTP)
    with pytest.raises(InvalidArgument), tracing.following(InferenceRequest("m"), 1, frontend):
        raise InvalidArgument("no")
    frontend.sent()
    tracing.close()
    assert names(written(path))[-2:] == ["REQUEST_START", "REQUEST_END"]


def test_parameters_that_are_text_are_part_of_a_trace(path: Path) -> None:
    tracing = Tracing(settings(path))
    with tracing.following(InferenceRequest("m", parameters={"x-who": "me", "priority": 1}), 1, None):
        pass
    tracing.close()
    assert written(path)[0]["parameters"] == {"x-who": "me"}
