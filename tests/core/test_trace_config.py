import pytest

from ortolan.core.trace_config import parse_trace_config
from ortolan.core.trace_settings import TraceSettings
from ortolan.errors import StartupError


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        ([], TraceSettings()),
        (["level=TIMESTAMPS"], TraceSettings(level=("TIMESTAMPS",))),
        (["level=TENSORS", "level=timestamps"], TraceSettings(level=("TIMESTAMPS", "TENSORS"))),
        (["level=OFF"], TraceSettings()),
        (["level=MAX"], TraceSettings(level=("TIMESTAMPS",))),
        (["rate=1", "rate=2"], TraceSettings(rate=2)),
        (["count=100"], TraceSettings(count=100)),
        (["mode=triton"], TraceSettings()),
        (["mode=TRITON"], TraceSettings()),
        (["triton,file=/a,b=c.json"], TraceSettings(file="/a,b=c.json")),
        ([" triton , file = /a b "], TraceSettings(file="/a b")),
        (["triton,file="], TraceSettings()),
        (["triton,log-frequency=50"], TraceSettings(log_frequency=50)),
        (
            ["triton,file=t", "triton,log-frequency=50", "rate=100", "level=TIMESTAMPS", "count=100"],
            TraceSettings(("TIMESTAMPS",), 100, 100, 50, "t"),
        ),
    ],
)
def test_the_texts_become_settings(texts: list[str], settings: TraceSettings) -> None:
    assert parse_trace_config(texts) == settings


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["level"], "expected [MODE,]SETTING=VALUE, got 'level'"),
        (["=1"], "expected [MODE,]SETTING=VALUE, got '=1'"),
        (["file=t"], "unknown setting 'file'; there are level, rate, count, mode, triton,file, triton,log-frequency"),
        (["triton,rate=1"], "unknown setting 'triton,rate'"),
        (["level=ALL"], "unknown level 'ALL' for 'level'"),
        (["level=OFF", "level=TENSORS"], "Expect only one trace level 'OFF'"),
        (["rate=often"], "Unable to parse 'rate', got: often"),
        (["count=-2"], "Expecting value >= -1, got: -2"),
        (["triton,log-frequency=x"], "Unable to parse 'log-frequency'"),
        (["level=TENSORS", "rate=0"], "sample rate must be non-zero"),
        (["mode=opentelemetry"], "OpenTelemetry is not supported yet; use mode=triton"),
        (["opentelemetry,url=http://localhost:4318/v1/traces"], "OpenTelemetry is not supported yet"),
        (["mode=zipkin"], "unknown mode 'zipkin'; there is triton"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag(texts: list[str], said: str) -> None:
    with pytest.raises(StartupError) as refused:
        parse_trace_config(texts)
    assert str(refused.value).startswith("--trace-config: ")
    assert said in str(refused.value)
