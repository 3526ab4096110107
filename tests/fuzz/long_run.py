"""Look for faults for longer than ``make test`` does: ``python -m fuzz.long_run SECONDS``, shared by all that look.

They are atheris on each target, Hypothesis on the property tests, schemathesis on the REST frontend, and random
requests to every route and method; each looks elsewhere every time. ``.fuzz`` keeps what atheris learnt, which is where
the next run goes on, and what it found.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz import ports, routes, targets
from server_process import running

TESTS = Path(__file__).parents[1]
KEPT = TESTS.parent / ".fuzz"
PROPERTIES = [
    test for floor in ("inference", "protocol", "repository", "http2") for test in (TESTS / floor).glob("test_*.py")
]
SHARES: Mapping[str, int] = {
    **dict.fromkeys((*targets.TARGETS, *ports.TARGETS), 1),
    "Hypothesis": 3,
    "schemathesis": 2,
    "routes": 2,
}
# All end by themselves; this is for when they do not.
GRACE_S = 120


def main(seconds: int) -> int:
    """The exit code: 0 when nothing was found."""
    found = []
    for name, share in SHARES.items():
        share_s = max(seconds * share // sum(SHARES.values()), 1)
        say(f"{name}: {share_s} s")
        looks = OTHERS.get(name)
        if looks(share_s) if looks else atheris_finds(name, share_s):
            found.append(name)
    say(f"found by {', '.join(found)}, see above" if found else "nothing was found")
    return 1 if found else 0


def atheris_finds(target: str, share_s: int) -> bool:
    directory = KEPT / target
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log"
    with log.open("wb") as file:
        fuzz = [sys.executable, "-m", "fuzz.run", target, directory, f"-max_total_time={share_s}"]
        failed = bool(subprocess.run(fuzz, stdout=file, stderr=file, timeout=share_s + GRACE_S).returncode)
    lines = log.read_text(errors="replace").splitlines()
    say("\n".join(lines[-40:] if failed else [line for line in lines if line.startswith("Done ")]))
    return failed


def hypothesis_finds(share_s: int) -> bool:
    """Passes through the property tests, in any order, until the time is up."""
    pytest = [sys.executable, "-m", "pytest", "-q", "--no-header", "-m", "hypothesis", "--hypothesis-profile=long"]
    end = time.monotonic() + share_s
    while (left_s := end - time.monotonic()) > 0:
        files = random.sample(PROPERTIES, len(PROPERTIES))
        try:
            if subprocess.run([*pytest, "--timeout=0", *files], timeout=left_s).returncode:
                return True
        except subprocess.TimeoutExpired:
            say("(the time is up)")
    return False


def schemathesis_finds(share_s: int) -> bool:
    with TemporaryDirectory() as scratch:
        models = Path(shutil.copytree(TESTS.parent / "model_repo", Path(scratch) / "models"))
        with running(models, "--model-control-mode=explicit", "--load-model=*", "--allow-client-shm") as server:
            config = f"--config-file={TESTS / 'conformance' / 'schemathesis.toml'}"
            schemathesis = [
                sys.executable,
                "-m",
                "schemathesis.cli",
                config,
                "run",
                f"http://{server.http}/openapi.json",
            ]
            # Without models there is little to see.
            bounds = ["--warnings=off", f"--max-time={share_s}", "--exclude-path-regex=/v2/repository/models/"]
            done = subprocess.run([*schemathesis, *bounds], cwd=scratch, timeout=share_s + GRACE_S)
    return bool(done.returncode)


def routes_finds(share_s: int) -> bool:
    with TemporaryDirectory() as scratch, routes.served(Path(scratch)) as served:
        seed = random.randrange(2**32)
        end = time.monotonic() + share_s
        found = routes.faults(served, seed, lambda: time.monotonic() < end)
        say("\n".join([f"seed {seed}", *found]))
    return bool(found)


OTHERS = {"Hypothesis": hypothesis_finds, "schemathesis": schemathesis_finds, "routes": routes_finds}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
