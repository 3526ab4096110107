"""The rules and the dashboard as data: what they ask Prometheus, and which metrics that reads."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROMETHEUS = ROOT / "k8s" / "prometheus"
DASHBOARD = ROOT / "k8s" / "grafana" / "dashboards" / "ortolan.json"

# What stands between the parentheses of these are names of labels.
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_OPERATORS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"})
# A name that is no function's, with its matchers; what a number's unit is made of begins after a digit.
_SELECTOR = re.compile(r"(?<![\w:$\"])([a-zA-Z_:][\w:]*+)(?!\s*\()(\{[^}]*\})?")


@dataclass(frozen=True)
class Rule:
    """One rule: ``name`` is the alert's or that of the recorded series."""

    name: str
    expression: str
    content: Mapping[str, Any]

    @property
    def is_alert(self) -> bool:
        return "alert" in self.content


def rules() -> list[Rule]:
    found = [rule for group in read_yaml(PROMETHEUS / "rules.yml")["groups"] for rule in group["rules"]]
    return [Rule(rule.get("alert") or rule["record"], rule["expr"], rule) for rule in found]


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def panels() -> list[Any]:
    """The dashboard's panels, without the titles of its rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries(panel: Any) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def filled(text: str, variables: Mapping[str, str]) -> str:
    """The query as Grafana sends it."""
    return re.sub(r"\$(\w+)", lambda found: variables[found[1]], text)


def selectors(expression: str) -> Iterator[tuple[str, str]]:
    """The name and the matchers of each metric that the expression reads."""
    for name, matchers in _SELECTOR.findall(_LABEL_LISTS.sub("", expression)):
        if name not in _OPERATORS:
            yield name, matchers


def documented(language: str) -> list[str]:
    """The snippets of docs/monitoring.md in that language, "" for none."""
    parts = re.split(r"^```(.*)\n", (ROOT / "docs" / "monitoring.md").read_text(), flags=re.MULTILINE)
    # Text, language, snippet, what ends it, text, and so on.
    return [snippet for named, snippet in zip(parts[1::4], parts[2::4], strict=True) if named == language]


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
