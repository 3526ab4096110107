"""What the package is made of: no code that runs its input, and nothing but what it says that it needs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import audit
import pytest
import sbom
import unsafe_code

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "server" / "ortolan"
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

FOR_DEVELOPERS = {"dev", "bench", "audit"}
"""Extras with which no server runs."""
ALLOWED = {
    # It reads the server's own certificate, by a handshake in memory: there is no other side whose name could be wrong.
    "frontends/tls/certificates.py": {"check_hostname=False"},
    # The process of a load generator and its parent, which is what people run against a server; no server runs it.
    "bench/load_process.py": {"import of multiprocessing, which sends pickles between its processes",
                              "import of multiprocessing.connection, which sends pickles between its processes"},
    # Of the commands of this package, by names that stand beside each other in one table.
    "commands/command_line.py": {"import_module of a name that is not written there"},
    # Towards a loopback address only, where nobody stands in between, and never where an authority is given.
    "commands/connection.py": {"check_hostname=False", "ssl.CERT_NONE"},
}  # fmt: skip
"""What a file has in spite of all, with the reason."""


def test_no_source_can_run_what_it_was_only_to_read() -> None:
    found = {
        path: {what.partition(": ")[2] for what in unsafe_code.found_in((PACKAGE / path).read_text(encoding="utf-8"))}
        for path in SOURCES
    }
    assert {path: whats for path, whats in found.items() if whats} == ALLOWED


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "line 1: import of pickle, which runs what is in its input"),
        ("import xml.etree.ElementTree as tree", "line 1: import of xml.etree"),
        ("def f():\n    from yaml import load", "line 2: import of yaml, which has tags that make objects"),
        ("from os import system", "line 1: os.system"),
        ("from builtins import eval as e", "line 1: builtins.eval"),
        ("eval(text)", "line 1: eval"),
        ("map(exec, texts)", "line 1: exec"),
        ("compile(text, '', 'eval')", "line 1: compile"),
        ("__import__(name)", "line 1: __import__"),
        ("importlib.import_module(name)", "line 1: import_module of a name"),
        ("np.load(path)", "line 1: np.load"),
        ("archive(path, allow_pickle=True)", "line 1: allow_pickle=True"),
        ("run(line, shell=True)", "line 1: shell=True"),
        ("tempfile.mktemp()", "line 1: tempfile.mktemp"),
        ("ssl._create_unverified_context()", "line 1: ssl._create_unverified_context"),
        ("context.verify_mode = ssl.CERT_NONE", "line 1: ssl.CERT_NONE"),
        ("context.check_hostname = False", "line 1: check_hostname=False"),
        ("get(url, verify=False)", "line 1: verify=False"),
    ],
)
def test_what_is_looked_for_is_found(source: str, what: str) -> None:
    (found,) = unsafe_code.found_in(source)
    assert found.startswith(what)


@pytest.mark.parametrize(
    "source",
    [
        "re.compile('x')",
        "import importlib\nimportlib.import_module('cuda.bindings.driver')",
        "from ortolan.protocol import code",
        "from .yaml import x",
        "run([line], shell=False)",
        "context.check_hostname = True",
        "self.load(path)",
    ],
)
def test_what_only_looks_like_it_is_let_be(source: str) -> None:
    assert [*unsafe_code.found_in(source)] == []


def test_everything_that_is_imported_is_asked_for() -> None:
    """A package that is there by chance is one whose versions nobody chose, and which no audit of ours looks at."""
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(each for name in {*extras} - FOR_DEVELOPERS for each in extras[name])]
    names = set(map(_distribution, asked))
    provided = {module: {*map(_normal, found)} for module, found in packages_distributions().items()}
    foreign = {module for path in SOURCES for module in _imports(path)} - {*sys.stdlib_module_names, "ortolan"}
    unasked = {module for module in foreign if not provided.get(module, {module}) & names}
    # Starlette is FastAPI's other half; cuda and pynvml come with the GPU's extra under names of their own.
    assert unasked - {"cuda", "pynvml", "starlette"} == set()


def test_no_dependency_is_there_to_load_objects() -> None:
    names = set(map(_distribution, PROJECT["dependencies"]))
    assert names.isdisjoint({*unsafe_code.LOADERS, "pyyaml", "ruamel-yaml", "torch", "defusedxml"})


def _imports(path: str) -> set[str]:
    roots = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            roots.add(node.module.partition(".")[0])
    return roots


def _distribution(requirement: str) -> str:
    return _normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# The bill of materials, and the audit


def bill(**changes: Any) -> dict[str, Any]:
    """One that is right, of a package that depends on numpy."""
    return {
        "metadata": {"component": {"bom-ref": "root", "name": "ortolan", "version": "1.0"}},
        "components": [{"bom-ref": "numpy==2", "name": "NumPy", "version": "2"}],
        "dependencies": [{"ref": "root", "dependsOn": ["numpy==2"]}],
        **changes,
    }


FETCHED = {"type": "distribution", "url": "https://index.invalid/numpy", "comment": "PackageSource: Archive"}
OFFERED = {"type": "distribution", "url": "https://numpy.invalid/", "comment": "from packaging metadata: Download-URL"}
LOCAL = {"type": "other", "url": "file:///models"}
REFERRING = {"bom-ref": "numpy==2", "name": "numpy", "version": "2"}


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"metadata": {"component": {"bom-ref": "root"}}}, ["the package has no version"]),
        ({"components": []}, ["numpy is missing"]),
        ({"components": [{"name": "numpy"}]}, ["numpy has no version"]),
        ({"dependencies": []}, ["the package does not depend on numpy"]),
        ({"components": [{**REFERRING, "externalReferences": [FETCHED]}]}, ["it says from where numpy was fetched"]),
        ({"components": [{**REFERRING, "externalReferences": [OFFERED]}]}, []),
        ({"components": [{**REFERRING, "externalReferences": [LOCAL]}]}, ["it names file:"]),
        ({"metadata": {"component": {"bom-ref": "root", "version": f"{ROOT}"}}}, [f"it names {ROOT}"]),
    ],
)
def test_a_bill_of_materials_names_all_that_is_asked_for_and_nothing_of_the_machine(
    changes: dict[str, Any], problems: list[str]
) -> None:
    found = [*sbom.problems(bill(**changes), ["numpy"])]
    assert [each for each in found if not each.startswith(f"it names {Path.home()}")] == problems


def test_the_bill_is_to_name_every_dependency_of_the_package_and_the_runtime() -> None:
    assert {"fastapi", "grpcio", "protobuf", "numpy", "onnxruntime", "onnx"} <= {*sbom.required("cpu")}
    assert "onnxruntime-gpu" in sbom.required("gpu")


CLEAN = {"name": "numpy", "version": "2", "vulns": []}
SKIPPED = {"name": "ours", "skip_reason": "not found"}
FAULT = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3"]}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([], 2, "the advisory database cannot be reached from here: nothing was audited"),
        ([SKIPPED], 2, "the advisory database cannot be reached from here: nothing was audited"),
        ([CLEAN], 0, "1 packages were looked up; 0 advisories are about them"),
        ([CLEAN, SKIPPED], 1, "could not be audited: ours"),
        ([{**CLEAN, "vulns": [FAULT]}], 1, "numpy 2: PYSEC-1, CVE-1; mended in 3"),
        ([{**CLEAN, "vulns": [{"id": "X"}]}], 1, "numpy 2: X; mended in no version yet"),
    ],
)
def test_only_what_was_looked_up_and_is_clean_passes_the_audit(found: list[Any], code: int, said: str) -> None:
    ended, lines = audit.verdict(found)
    assert (ended, lines[0]) == (code, said)


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+-]*", line)] == []
    assert len({_distribution(line) for line in lines}) == len(lines)
