"""Fuzz one target with atheris: ``python -m fuzz.run TARGET DIRECTORY [options of libFuzzer] [inputs]``.

Inputs that are named are read once each, and no others. Without any, ``DIRECTORY`` gets the seeds, and what is found to
reach further than they do; a second run goes on from there. atheris takes the process over and ends it: with 0 when
nothing was found, else after it wrote the input to ``DIRECTORY``.
"""

import logging
import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import atheris

# Where bytes are read; to look at all that the server has would take longer than `make test` fuzzes.
_READERS = (
    *(f"ortolan.{floor}" for floor in ("inference", "protocol", "repository", "http2", "frontends.rest")),
    *("hpack", "google.protobuf.text_format", "google.protobuf.json_format"),
)
_LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1")


def main(name: str, directory: Path, *options: str) -> None:
    # What is refused is logged, millions of times.
    logging.disable()
    target = _target(name)
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def altered(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        found = target.altered(data, random) if random.random() < 0.5 else None
        return found if found is not None and len(found) <= max_size else bytes(atheris.Mutate(data, max_size))

    places = [] if any(not option.startswith("-") for option in options) else [str(corpus)]
    arguments = [sys.argv[0], *_LIMITS, f"-artifact_prefix={directory}/", *options, *places]
    atheris.Setup(arguments, target.check, custom_mutator=altered)
    atheris.Fuzz()


def _target(name: str) -> Any:
    """The target, imported only now, so that the code beneath it is watched."""
    with atheris.instrument_imports(include=_READERS):
        module = import_module("fuzz.ports" if name.startswith("http1") else "fuzz.targets")
    return module.TARGETS[name]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
