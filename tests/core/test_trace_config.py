import pytest

from ortolan.core.trace_config import TraceConfig, parse_trace_config
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
    assert parse_trace_config(texts) == TraceConfig(settings, {})


@pytest.mark.parametrize(
    ("texts", "given"),
    [
        (["mode=opentelemetry"], {}),
        (["mode=OpenTelemetry", "opentelemetry,url=http://c:4318/v1/traces"], {"url": ["http://c:4318/v1/traces"]}),
        (
            ["opentelemetry,resource=service.name=a", "mode=opentelemetry", " OpenTelemetry , resource = k=v=w"],
            {"resource": ["service.name=a", "k=v=w"]},
        ),
        (["mode=opentelemetry", "opentelemetry,bsp_max_queue_size=9"], {"bsp_max_queue_size": ["9"]}),
    ],
)
def test_the_settings_of_opentelemetry_are_kept_apart(texts: list[str], given: dict[str, list[str]]) -> None:
    assert parse_trace_config(texts) == TraceConfig(TraceSettings(mode="opentelemetry"), given)


def test_opentelemetry_may_trace_only_what_its_callers_trace() -> None:
    config = parse_trace_config(["mode=opentelemetry", "level=TIMESTAMPS", "rate=0"])
    assert config.settings == TraceSettings(("TIMESTAMPS",), rate=0, mode="opentelemetry")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["level"], "expected [MODE,]SETTING=VALUE, got 'level'"),
        (["=1"], "expected [MODE,]SETTING=VALUE, got '=1'"),
        (["file=t"], "unknown setting 'file'; there are level, rate, count, mode, triton,file, triton,log-freq"),
        (["triton,rate=1"], "unknown setting 'triton,rate'"),
        (["level=ALL"], "unknown level 'ALL' for 'level'"),
        (["level=OFF", "level=TENSORS"], "Expect only one trace level 'OFF'"),
        (["rate=often"], "Unable to parse 'rate', got: often"),
        (["count=-2"], "Expecting value >= -1, got: -2"),
        (["triton,log-frequency=x"], "Unable to parse 'log-frequency'"),
        (["level=TENSORS", "rate=0"], "sample rate must be non-zero"),
        (["mode=opentelemetry", "opentelemetry,port=1"], "unknown setting 'opentelemetry,port'"),
        (
            ["mode=opentelemetry", "triton,file=t"],
            "'triton,file' belongs to mode=triton, and the mode is",
        ),
        (["opentelemetry,url=http://c"], "'opentelemetry,url' belongs to mode=opentelemetry, and the mode is triton"),
        (["mode=zipkin"], "unknown mode 'zipkin'; there are triton and opentelemetry"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag(texts: list[str], said: str) -> None:
    with pytest.raises(StartupError) as refused:
        parse_trace_config(texts)
    assert str(refused.value).startswith("--trace-config: ")
    assert said in str(refused.value)
