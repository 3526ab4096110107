"""Manifests against the schemas of their kinds: those that kubernetes-validate has, and ``tests/shipping/schemas``.

Strictly, and each schema is read but once, where `kubernetes-validate --strict` reads all of a version's for each
manifest, and only warns of kinds that it does not know.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, major_minor, schema_contents
from referencing import Registry, Resource

SCHEMAS = Path(__file__).resolve().parent / "shipping" / "schemas"
OLDEST = "1.27"
"""The oldest Kubernetes that k8s/README.md promises."""

Manifest = dict[str, Any]

_OWN = "kubernetes#"
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def kubernetes_versions() -> list[str]:
    """From the oldest that is promised to the newest that is known."""
    versions = list(dict.fromkeys(major_minor(version) for version in all_versions()))
    return versions[versions.index(OLDEST) :]


def faults(manifest: Manifest, version: str) -> list[str]:
    """What a cluster of that version would not take, as a path and a sentence each; a kind that nobody knows is one."""
    try:
        schema = _custom().get(manifest["kind"]) or _kubernetes(manifest["kind"], manifest["apiVersion"], version)
    except FileNotFoundError:
        return [f"$.kind: nobody knows {manifest['kind']} of {manifest['apiVersion']}"]
    validator = Draft202012Validator(schema, registry=_registry(version))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


@cache
def _kubernetes(kind: str, api_version: str, version: str) -> Manifest:
    """Its schema, which lets in nothing that is not named. Raises FileNotFoundError for a kind that is none."""
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    return _content(f"{kind.lower()}-{group}.json", version)


@cache
def _custom() -> Mapping[str, Manifest]:
    """A JSON schema of the whole object, by kind."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(SCHEMAS.glob("*.yaml"))]
    return {kind: _whole(kind, described) for kinds in files for kind, described in kinds.items()}


def _whole(kind: str, described: Manifest) -> Manifest:
    return _closed(
        {
            "type": "object",
            "required": ["apiVersion", "kind", "metadata", "spec"],
            "properties": {
                "apiVersion": {"const": described["apiVersion"]},
                "kind": {"const": kind},
                "metadata": {"$ref": _OWN + _METADATA},
                "spec": described["spec"],
            },
        }
    )


def _closed(schema: Any) -> Any:
    """The schema with nothing let in that is not named, and with its references into Kubernetes' own definitions."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key != "alsoOf"}
    if "$ref" in closed:
        return {"$ref": f"{_definitions()['$id']}#/$defs/{closed['$ref'].removeprefix(_OWN)}"}
    if isinstance(closed.get("properties"), dict):
        closed["properties"] = _of_definition(schema.get("alsoOf")) | closed["properties"]
        closed.setdefault("additionalProperties", False)
    return closed


def _of_definition(name: str | None) -> Manifest:
    """The properties of one of Kubernetes' own definitions, as they may stand among others."""
    if name is None:
        return {}
    place = f"{_definitions()['$id']}#/$defs/{name}"
    return {each: {"$ref": f"{place}/properties/{each}"} for each in _definitions()["$defs"][name]["properties"]}


def _definitions() -> Manifest:
    return _content("_definitions.json", kubernetes_versions()[-1])


@cache
def _registry(version: str) -> "Registry[Any]":
    return Resource.from_contents(_content("_definitions.json", version)) @ Registry()


@cache
def _content(name: str, version: str) -> Manifest:
    return schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/{name}", version)
