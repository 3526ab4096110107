"""Python, and the packages that the server cannot do without: there, whole, and of versions that are supported."""

import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from ortolan import __version__
from ortolan.commands.checks.child import Ended, run
from ortolan.commands.checks.finding import Finding, broken, ok, warning

REQUIRED = {
    "fastapi": "fastapi",
    "fastapi-offline": "fastapi_offline",
    "grpcio": "grpc",
    "grpcio-reflection": "grpc_reflection",
    "hpack": "hpack",
    "httptools": "httptools",
    "numpy": "numpy",
    "orjson": "orjson",
    "prometheus-client": "prometheus_client",
    "protobuf": "google.protobuf",
    "pydantic": "pydantic",
    "uvicorn": "uvicorn",
    "uvloop": "uvloop",
    "watchfiles": "watchfiles",
}
"""Distributions, and what is imported of each. A test compares them with those that the package asks for."""

_OLDEST_PYTHON = (3, 11)
_TIMEOUT_S = 120.0
# A line for each module, as it goes: the one after the last line is what a crash was in.
_PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        print(name, "imported", flush=True)
    except BaseException as error:
        print(name, type(error).__name__, *str(error).split(), flush=True)
"""
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*)")
_BOUND = re.compile(r"(>=|<|==|!=|>|<=)\s*([\d.]+)")


def check(environment: Mapping[str, str]) -> list[Finding]:
    """Python and the packages."""
    return [_python(sys.version_info[:2]), *installed(_asked_for(), dict(_versions())), *_importable(environment)]


def _python(version: tuple[int, ...]) -> Finding:
    text = f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"
    if version < _OLDEST_PYTHON:
        return broken("python", f"{text} is too old", "install Python 3.11 or later, and Ortolan into it")
    return ok("python", text)


def installed(asked: Mapping[str, str], found: Mapping[str, str]) -> list[Finding]:
    """What is wrong with the versions ``found`` of what is ``asked`` for, both by distribution."""
    missing = [name for name in REQUIRED if name not in found and not _needless(name)]
    findings = [broken("packages", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")] * bool(
        missing
    )
    for name, bounds in asked.items():
        if name in found and not is_within(found[name], bounds):
            needed = f"{name}{bounds}"
            text = f"{name} {found[name]} is installed, and {needed} is supported"
            findings.append(warning("packages", text, f'pip install "{needed}"'))
    own = found.get("ortolan", __version__)
    if own != __version__:
        text = f"the program is {__version__}, and what is installed calls itself {own}"
        findings.append(warning("packages", text, "install it anew: pip install --force-reinstall ortolan"))
    return findings


def is_within(version: str, bounds: str) -> bool:
    """Whether a version obeys bounds such as ``>=1.2,<2``; versions by their numbers alone."""
    numbers = _numbers(version)
    compared = {">=": numbers.__ge__, "<": numbers.__lt__, ">": numbers.__gt__, "<=": numbers.__le__}
    return all(compared[sign](_numbers(bound)) for sign, bound in _BOUND.findall(bounds) if sign in compared)


def judged(ended: Ended) -> list[Finding]:
    """What came of importing the packages in another process."""
    lines = [line.split(" ", 2) for line in ended.out.splitlines()]
    names = {module: name for name, module in REQUIRED.items()}
    findings = [
        broken(
            "packages",
            f"{module} cannot be imported: {' '.join(outcome)[:300]}",
            f"install it anew: pip install --force-reinstall {names.get(module, module)}",
        )
        for module, *outcome in lines
        if outcome[0] != "imported"
    ]
    if ended.code != 0:
        culprit = next(iter([*REQUIRED.values()][len(lines) :]), "python")
        again = f"install it anew: pip install --force-reinstall {names.get(culprit, culprit)}"
        findings.append(broken("packages", f"importing {culprit} {ended.how}", again))
    return findings


def _importable(environment: Mapping[str, str]) -> Sequence[Finding]:
    found = dict(_versions())
    there = [module for name, module in REQUIRED.items() if name in found]
    findings = judged(run(["-c", _PROGRAM, *there], environment, _TIMEOUT_S))
    named = ", ".join(f"{name} {found[name]}" for name in ("grpcio", "protobuf", "numpy", "uvicorn") if name in found)
    return findings or [ok("packages", f"ortolan {__version__}, {named}")]


def _versions() -> list[tuple[str, str]]:
    """The distributions of interest that are installed."""
    found = []
    for name in ("ortolan", *REQUIRED):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _asked_for() -> dict[str, str]:
    """The bounds of each package that the installed server asks for in any case; none for one that is not installed."""
    try:
        texts = metadata.requires("ortolan") or []
    except metadata.PackageNotFoundError:
        return {}
    matches = [_REQUIREMENT.match(text) for text in texts if "extra ==" not in text]
    return {match[1]: match[2].strip() for match in matches if match}


def _needless(name: str) -> bool:
    return name == "uvloop" and sys.platform == "win32"


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", version.split("+")[0])][:4]
    return (*numbers, *[0] * (4 - len(numbers)))
