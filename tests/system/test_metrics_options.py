"""What the operator may choose of the metrics; and the page in docs/, which has every one of them."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from metrics_page import families, infer, not_found_by_http, of_histogram, page, samples, value
from server_process import ServerProcess, eventually, running

from ortolan.frontends.metrics.gpus import Gpus

BUCKETS = "histogram_options { buckets: [ 5, 60000 ] }"
CONTROL = f'metric_identifier {{ family: "nv_inference_first_response_histogram_ms" }} {BUCKETS}'
CHOSEN = f"model_metrics {{ metric_control {{ {CONTROL} }} }}\nresponse_cache {{ enable: true }}"
DETAILED = (
    "--model-namespacing",
    "--cache-config=local,size=1000000",
    "--model-memory-budget=1GiB",
    "--metrics-config=histogram_latencies=true",
    "--metrics-config=summary_latencies=true",
    "--metrics-config=summary_quantiles=0.5:0.05,0.75:0.01",
    "--metrics-interval-ms=100",
)


@pytest.fixture(scope="module")
def detailed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Everything that can be told, of ``gather`` with buckets of its own, and of two models that share a name."""
    ours, theirs = (tmp_path_factory.mktemp("repositories") / name for name in ("ours", "theirs"))
    onnx_models.save_version(ours, "gather", onnx_models.gather(), config=f"max_batch_size: 4\n{CHOSEN}")
    for repository in (ours, theirs):
        onnx_models.save_version(repository, "same", onnx_models.gather())
    with running(ours, theirs, *DETAILED) as server:
        for index in (1, 1, 2):
            assert infer(server, index) == 200
        # Processor and load are told of the time between two looks.
        eventually(lambda: "nv_cpu_utilization" in page(server)[1] or not sys.platform.startswith("linux"))
        yield server


def test_the_histogram_of_first_responses_has_the_models_buckets(detailed: ServerProcess) -> None:
    found = families(page(detailed)[1])["nv_inference_first_response_histogram_ms"]
    bounds = [
        labels["le"] for labels, _ in found.samples if labels["part"] == "_bucket" and labels["model"] == "gather"
    ]
    assert bounds == ["5.0", "60000.0", "+Inf"]
    buckets, total, count = of_histogram(detailed, "nv_inference_first_response_histogram_ms", model="gather")
    assert (buckets[-1], count) == (3, 3)
    assert total == pytest.approx(samples(detailed)["nv_inference_request_duration_us"] / 1000, abs=0.002)


def test_summaries_tell_of_each_stage(detailed: ServerProcess) -> None:
    found, triton = families(page(detailed)[1]), samples(detailed)
    for stage in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        summary = found[f"nv_inference_{stage}_summary_us"]
        mine = {labels.get("quantile", labels.get("part")): number for labels, number in summary.samples
                if labels["model"] == "gather"}  # fmt: skip
        assert set(mine) == {"0.5", "0.75", "_sum", "_count"}
        assert mine["_sum"] == triton[f"nv_inference_{stage}_duration_us"]
        assert mine["_count"] == (3 if stage in ("request", "queue") else 2)
    hits = {labels.get("quantile", labels.get("part")): number
            for labels, number in found["nv_cache_hit_summary_per_model"].samples}  # fmt: skip
    assert (hits["_count"], hits["0.5"] > 0) == (1, True)


def test_models_that_share_a_name_are_told_apart_by_their_namespace(detailed: ServerProcess) -> None:
    found = families(page(detailed)[1])["nv_inference_count"]
    told = {labels["model"]: labels.get("namespace") for labels, _ in found.samples}
    assert told == {"gather": None, "ours::same": "ours", "theirs::same": "theirs"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the numbers come from /proc")
def test_the_machine_is_told_of(detailed: ServerProcess) -> None:
    assert 0 <= value(detailed, "nv_cpu_utilization") <= 1
    total, used = (value(detailed, f"nv_cpu_memory_{which}_bytes") for which in ("total", "used"))
    assert 0 < used < total


def test_what_is_not_wanted_is_not_told(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "gather", onnx_models.gather())
    with running(tmp_path, "--metrics-config=counter_latencies=false", "--allow-cpu-metrics=false") as server:
        found = families(page(server)[1])
        assert not [name for name in found if "_duration_us" in name or "nv_cpu_" in name]
        assert "nv_inference_count" in found


# -- the page in docs/ ------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
# Without a GPU, and in a single process.
NOT_HERE = {each.name for each in Gpus().families()} | {"ortolan_replicas", "ortolan_replica_restarts_total"}


def documented() -> dict[str, tuple[str, str]]:
    """Type and labels by name."""
    row = r"^\| `(\w+)` \| (counter|gauge|histogram|summary) \|([^|]*)\|"
    rows = re.findall(row, PAGE.read_text(), re.MULTILINE)
    return {name: (kind, labels) for name, kind, labels in rows}


def test_the_page_and_the_server_have_the_same_metrics_of_the_same_types(detailed: ServerProcess) -> None:
    not_found_by_http(detailed)
    found = families(page(detailed)[1])
    kinds = {name: kind for name, (kind, _) in documented().items() if name not in NOT_HERE}
    assert {name: family.kind for name, family in found.items()} == kinds


def test_the_page_names_the_labels_of_each_metric(detailed: ServerProcess) -> None:
    usual, of_form = {"model", "version", "namespace"}, {"part", "le", "quantile"}
    for name, family in families(page(detailed)[1]).items():
        labels = {label for have, _ in family.samples for label in have} - of_form
        text = documented()[name][1]
        assert ("model" in re.sub("`.*?`", "", text)) == ("model" in labels), name
        assert labels - usual <= set(re.findall(r"`(\w+)`", text)), name
