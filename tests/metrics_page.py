"""The metrics of a server as its page has them, and what a test does to be counted."""

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import pytest
from server_process import ServerProcess


@dataclass
class Family:
    """One metric of a page, as the text format 0.0.4 has it."""

    kind: str
    explanation: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)


def families(text: str) -> dict[str, Family]:
    """The metrics of a page by name. Each sample must stand under the heading of its own name."""
    found: dict[str, Family] = {}
    name = explanation = ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"# HELP (\w+) (.+)", line):
            name, explanation = heading.groups()
        elif heading := re.fullmatch(rf"# TYPE {name} (counter|gauge|histogram|summary)", line):
            found[name] = Family(heading[1], explanation)
        else:
            sample = re.fullmatch(rf"{name}(_bucket|_sum|_count)?(?:{{(.*)}})? (\S+)", line)
            assert sample, line
            assert bool(sample[1]) == (found[name].kind == "histogram") or found[name].kind == "summary", line
            labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)', sample[2] or "")
            part = {"part": sample[1]} if sample[1] else {}
            found[name].samples.append(({key: unescaped(value) for key, value in labels} | part, float(sample[3])))
    return found


def unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), value)


def page(server: ServerProcess, accept: str = "*/*") -> tuple[str, str]:
    """The content type and the text."""
    request = urllib.request.Request(f"http://{server.metrics}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
        return response.headers["content-type"], response.read().decode()


def samples(server: ServerProcess, model: str = "gather", version: str = "1") -> dict[str, float]:
    """Triton's numbers of one version by metric, those of failures by reason."""
    return {
        labels.get("reason", name): value
        for name, family in families(page(server)[1]).items()
        for labels, value in family.samples
        if (labels.get("model"), labels.get("version")) == (model, version) and name.startswith("nv_")
    }


def value(server: ServerProcess, name: str, **labels: str) -> float:
    """The one sample of a metric that has these labels; 0 for none."""
    found = families(page(server)[1]).get(name, Family("", "")).samples
    values = [number for have, number in found if have.items() >= labels.items()]
    assert len(values) <= 1, values
    return values[0] if values else 0.0


def of_histogram(server: ServerProcess, name: str, **labels: str) -> tuple[list[float], float, float]:
    """Its buckets, its sum and its count."""
    found = [each for each in families(page(server)[1])[name].samples if each[0].items() >= labels.items()]
    parts = {part: [number for have, number in found if have["part"] == part] for part in ("_bucket", "_sum", "_count")}
    (total,), (count,) = parts["_sum"], parts["_count"]
    return parts["_bucket"], total, count


def infer(server: ServerProcess, index: int, rows: int = 1) -> int:
    data = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [rows, 1], "data": [index] * rows}]}
    url = f"http://{server.http}/v2/models/gather/versions/1/infer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(data).encode()), timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def not_found_by_http(server: ServerProcess) -> None:
    with pytest.raises(urllib.error.HTTPError), urllib.request.urlopen(f"http://{server.http}/v2/models/none"):
        raise AssertionError("nothing is there")
