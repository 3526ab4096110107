"""Fuzz one target with atheris: ``python -m fuzz.run TARGET DIRECTORY [options of libFuzzer] [inputs]``.

Inputs that are named are read once each, and no others. Without any, ``DIRECTORY`` gets the seeds, and what is found to
reach further than they do; a second run goes on from there. atheris takes the process over and ends it: with 0 when
nothing was found, else after it wrote the input to ``DIRECTORY``.
"""

import sys
from hashlib import sha256
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(
    include=["ortolan", "hpack", "google.protobuf.text_format", "google.protobuf.json_format"]
):
    from fuzz.targets import TARGETS

_LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1")


def main(name: str, directory: Path, *options: str) -> None:
    target = TARGETS[name]
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


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
