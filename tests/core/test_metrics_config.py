"""``--metrics-config``: Triton's texts and what they come to."""

import pytest

from ortolan.core.metrics_config import QUANTILES, MetricsConfig, parse_metrics_config
from ortolan.errors import StartupError
from ortolan.managed_models import model_manager
from ortolan.settings import Settings

# the flag's values, and what they mean
RIGHT = [
    ((), MetricsConfig()),
    (("counter_latencies=false",), MetricsConfig(counters=False)),
    (("histogram_latencies=true",), MetricsConfig(histograms=True)),
    (("summary_latencies=ON",), MetricsConfig(summaries=True)),
    (("summary_latencies=true", "summary_latencies=0"), MetricsConfig()),
    (("summary_quantiles=0.5:0.05,0.9:0.01",), MetricsConfig(quantiles=(0.5, 0.9))),
    ((" summary_quantiles = 0.75 ",), MetricsConfig(quantiles=(0.75,))),
]
# what is wrong, and a part of what is said of it
WRONG = [
    ("summary_latencies", "expected SETTING=VALUE, got 'summary_latencies'"),
    ("=true", "expected SETTING=VALUE"),
    ("summary_latencies=", "expected SETTING=VALUE"),
    ("summary_latency=true", "unknown setting 'summary_latency'; there are counter_latencies, histogram_latencies, "
     "summary_latencies, summary_quantiles; did you mean summary_latencies?"),
    ("x=true", "unknown setting 'x'"),
    ("counter_latencies=maybe", "counter_latencies must be true or false, got 'maybe'"),
    ("summary_quantiles=1.5:0.1", "summary_quantiles must be QUANTILE:ERROR"),
    ("summary_quantiles=0.5:2", "summary_quantiles must be"),
    ("summary_quantiles=nan:0", "summary_quantiles must be"),
    ("summary_quantiles=p50", "summary_quantiles must be"),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "config"), RIGHT)
def test_a_text_means_what_it_means_in_triton(texts: tuple[str, ...], config: MetricsConfig) -> None:
    assert parse_metrics_config(texts) == config


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_told(text: str, said: str) -> None:
    with pytest.raises(StartupError) as refused:
        parse_metrics_config([text])
    assert f"--metrics-config: {said}" in str(refused.value)


def test_the_usual_quantiles_are_tritons() -> None:
    assert QUANTILES == (0.5, 0.9, 0.95, 0.99, 0.999)


def test_a_wrong_setting_ends_the_start() -> None:
    with pytest.raises(StartupError, match="unknown setting 'histograms'"):
        model_manager(Settings(model_repository=("models",), metrics_config=("histograms=true",)), None)
