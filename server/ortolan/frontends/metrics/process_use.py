"""What the process uses, or each of several: memory is not added up, because they share a part of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from prometheus_client import ProcessCollector

from ortolan.core.whole_server import ToldServer
from ortolan.frontends.metrics.exposition import Family, Kind, sample

Samples = Sequence[tuple[str, str, str, float]]


def process_samples() -> list[tuple[str, str, str, float]]:
    """What this process uses: name, kind, explanation and value of each of its metrics, for another to tell."""
    families = ProcessCollector(registry=None).collect()
    return [(s.name, family.type, family.documentation, s.value) for family in families for s in family.samples]


def process_families(told: ToldServer) -> Iterator[Family]:
    """Without labels where there is one process, else by the number of each replica."""
    if not told.replicas:
        yield from _families({"": process_samples()})
        return
    name, restarts = "ortolan_replicas", "ortolan_replica_restarts_total"
    yield Family(name, "gauge", "Processes that serve", [sample(name, len(told.replicas))])
    explanation = "Processes that ended and were begun anew"
    yield Family(restarts, "counter", explanation, [sample(restarts, told.restarts)])
    yield from _families(told.replicas)


def _families(replicas: Mapping[str, Samples]) -> Iterator[Family]:
    headings = {name: (kind, text) for samples in replicas.values() for name, kind, text, _ in samples}
    for heading, (kind, text) in headings.items():
        lines = [
            sample(name, value, f'replica="{number}"' if number else "")
            for number, samples in sorted(replicas.items())
            for name, _, _, value in samples
            if name == heading
        ]
        yield Family(heading, cast("Kind", kind), text.rstrip(), lines)
