"""Write the bill of materials of what runs when the server runs, as CycloneDX: ``python sbom.py EXTRA FILE``.

The package is installed into a fresh environment beside FILE, with ``constraints.txt`` and with the extra (cpu, gpu)
that brings ONNX Runtime, and nothing that is only for tests. CycloneDX's own tool reads that and checks the result
against its schema; it is looked through here for what must and what must not be in it.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
_DYNAMIC = 'dynamic = ["version"]\n'


def main(extra: str, file: Path) -> int:
    """The exit code: 0 once FILE is written and nothing is wrong with it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    environment = file.parent / "environment"
    _install(extra, environment)
    _write(environment, _described(file.parent), file)
    document = json.loads(file.read_text())
    found = list(problems(document, required(extra)))
    for problem in found:
        print(f"{file}: {problem}", file=sys.stderr)
    if not found:
        print(f"{file}: {len(document['components'])} components")
    return 1 if found else 0


def required(extra: str) -> list[str]:
    """The names of everything that the package itself asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return [normal(re.split(r"[^A-Za-z0-9._-]", each)[0]) for each in asked if not _is_elsewhere(each)]


def problems(document: Any, names: list[str]) -> Iterator[str]:
    """What is missing from the bill, and what of this machine is in it."""
    root = document["metadata"]["component"]
    if not root.get("version"):
        yield "the package has no version"
    versions = {normal(each["name"]): each.get("version") for each in document["components"]}
    yield from (f"{name} is missing" for name in names if name not in versions)
    yield from (f"{name} has no version" for name, version in versions.items() if not version)
    direct = {entry["ref"]: entry.get("dependsOn", ()) for entry in document["dependencies"]}.get(root["bom-ref"], ())
    reached = {normal(each.partition("==")[0]) for each in direct}
    yield from (f"the package does not depend on {name}" for name in names if name not in reached)
    text = json.dumps(document)
    yield from (f"it names {place}" for place in ("file:", str(ROOT), str(Path.home()) + "/") if place in text)
    for component in document["components"]:
        if any(map(_is_fetched, component.get("externalReferences", ()))):
            yield f"it says from where {component['name']} was fetched"


def _is_fetched(reference: Any) -> bool:
    """Whether it says from where a package was installed here, and not where its makers offer it."""
    return reference["type"] == "distribution" and "from packaging metadata" not in reference.get("comment", "")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_elsewhere(requirement: str) -> bool:
    """Whether it is for other systems only."""
    system = re.search(r"sys_platform (==|!=) '(\w+)'", requirement)
    return system is not None and (system[1] == "==") != (system[2] == sys.platform)


def _install(extra: str, environment: Path) -> None:
    _run(sys.executable, "-m", "venv", "--clear", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", environment / "bin" / "python")
    _run(*pip, "install", "-c", ROOT / "constraints.txt", f"{ROOT}[{extra}]")


def _described(directory: Path) -> Path:
    """pyproject.toml with the version in it, which the tool does not look for elsewhere."""
    version = _VERSION.search((ROOT / "server" / "ortolan" / "__init__.py").read_text())
    text = (ROOT / "pyproject.toml").read_text()
    if version is None or _DYNAMIC not in text:
        raise SystemExit("expected the version in server/ortolan/__init__.py, and pyproject.toml to point there")
    path = directory / "pyproject.toml"
    path.write_text(text.replace(_DYNAMIC, f'version = "{version[1]}"\n'))
    return path


def _write(environment: Path, project: Path, file: Path) -> None:
    tool = (sys.executable, "-m", "cyclonedx_py", "environment", environment, "--pyproject", project)
    _run(*tool, "--output-reproducible", "--validate", "-o", file)


def _run(*command: str | Path) -> None:
    if code := subprocess.run([str(part) for part in command]).returncode:
        raise SystemExit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
