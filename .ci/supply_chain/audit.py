"""Look every version of ``constraints.txt`` up in the advisory database, with pip-audit: ``python audit.py``.

Ends with 0 only when each was looked up and nothing is known of any; what could not be looked up is not clean.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
UNREACHED = 2


def main() -> int:
    """The exit code: 1 where something is known, 2 where the database was not reached."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    done = subprocess.run([*command, "--progress-spinner=off", "-f", "json"], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(done.stderr[-2000:], file=sys.stderr)
        found = []
    code, lines = verdict(found)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


def verdict(found: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code and what to say of what pip-audit found."""
    looked_up = [each for each in found if "skip_reason" not in each]
    if not looked_up:
        return UNREACHED, ["the advisory database cannot be reached from here: nothing was audited"]
    known = [(each, fault) for each in looked_up for fault in each["vulns"]]
    left = [each["name"] for each in found if "skip_reason" in each]
    lines = [f"{each['name']} {each['version']}: {_told(fault)}" for each, fault in known]
    if left:
        lines.append(f"could not be audited: {', '.join(left)}")
    lines.append(f"{len(looked_up)} packages were looked up; {len(known)} advisories are about them")
    return (1 if known or left else 0), lines


def _told(fault: dict[str, Any]) -> str:
    names = ", ".join([fault["id"], *fault.get("aliases", ())])
    fixes = ", ".join(fault.get("fix_versions", ())) or "no version yet"
    return f"{names}; mended in {fixes}"


if __name__ == "__main__":
    sys.exit(main())
