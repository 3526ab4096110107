"""``instance_group.rate_limiter``: read, completed, shown back, and what is refused."""

import pytest

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import FP32
from ortolan.repository.config_completion import CompletionDefaults, complete
from ortolan.repository.config_file import parse_text
from ortolan.repository.config_rendering import to_json, to_text
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.rate_limiter_config import RateLimiterConfig, Resource

GRAPH = GraphSignature((GraphTensor("x", FP32, (-1, 4)),), (GraphTensor("y", FP32, (-1, 4)),))
TEXT = """
instance_group [
  { count: 2 rate_limiter { resources [ { name: "R1" count: 4 }, { name: "R2" global: true count: 1 } ] priority: 2 } },
  { name: "free" kind: KIND_CPU }
]
"""
LIMITER = RateLimiterConfig((Resource("R1", 4), Resource("R2", 1, True)), 2)


def test_it_is_read_kept_through_completion_and_shown_back() -> None:
    config = complete(parse_text(TEXT, "m"), GRAPH, CompletionDefaults())
    assert [group.rate_limiter for group in config.instance_groups] == [LIMITER, RateLimiterConfig()]
    assert parse_text(to_text(config), "m").instance_groups == config.instance_groups
    shown = to_json(config)["instance_group"]
    assert shown[0]["rate_limiter"] == {
        "resources": [{"name": "R1", "global": False, "count": 4}, {"name": "R2", "global": True, "count": 1}],
        "priority": 2,
    }
    assert "rate_limiter" not in shown[1]
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ("{ count: 1 }", "every resource must specify 'name'"),
        ('{ name: "R" count: 1 }, { name: "R" global: true }', "resource 'R' is given twice"),
        ('{ name: "R" count: -1 }', "line 1"),
    ],
)
def test_what_makes_no_sense_is_refused(resources: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        parse_text(f"instance_group {{ rate_limiter {{ resources [ {resources} ] }} }}", "m")
