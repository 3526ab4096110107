"""The text format: what is written is what a reader of the format finds again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ortolan.frontends.metrics.exposition import Family, bound_texts, histogram, label_text, lines_of, sample, summary


@given(st.dictionaries(st.sampled_from(("model", "version", "_team")), st.text()), st.floats(allow_nan=False))
def test_labels_may_have_any_characters(labels: dict[str, str], value: float) -> None:
    text = "".join(lines_of([Family("m", "gauge", "Words", [sample("m", value, label_text(labels))])]))
    ((found,),) = (family.samples for family in text_string_to_metric_families(text))
    assert (found.labels, found.value) == (labels, value)


def test_a_family_without_samples_is_left_out() -> None:
    families = [Family("a", "gauge", "A", []), Family("b", "gauge", "B", [sample("b", 1), sample("b", 2, 'x="y"')])]
    assert "".join(lines_of(families)) == '# HELP b B\n# TYPE b gauge\nb 1\nb{x="y"} 2\n'


@pytest.mark.parametrize("labels", ["", 'model="m"'])
def test_buckets_of_a_histogram_count_all_that_is_below(labels: str) -> None:
    bounds = bound_texts((0.5, 1, 2.5))
    assert bounds == ("0.5", "1.0", "2.5")
    text = "".join(lines_of([Family("h", "histogram", "H", [histogram("h", labels, bounds, [1, 0, 2, 4], 9.5)])]))
    (family,) = text_string_to_metric_families(text)
    found = {(each.name, each.labels.get("le")): each.value for each in family.samples}
    assert found == {
        **{("h_bucket", bound): count for bound, count in zip((*bounds, "+Inf"), (1, 1, 3, 7), strict=True)},
        ("h_sum", None): 9.5,
        ("h_count", None): 7,
    }


def test_a_quantile_of_nothing_is_no_number() -> None:
    text = "".join(lines_of([Family("s", "summary", "S", [summary("s", 'model="m"', [(0.5, math.nan)], 0, 0)])]))
    assert 's{model="m",quantile="0.5"} NaN\n' in text
    assert text.endswith('s_sum{model="m"} 0\ns_count{model="m"} 0\n')
