"""What FastAPI's document does not know of our routes: their headers, the form of versions, what any body can meet."""

from collections.abc import Iterator, Mapping
from typing import Any

from ortolan.frontends.access.access import Access
from ortolan.frontends.rest.compression import ENCODINGS
from ortolan.frontends.rest.operations import category_of, operation_of
from ortolan.frontends.restriction import Restrictions

_ERROR: Mapping[str, Any] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
_OF_ANY_BODY = {
    "Content-Encoding": ("How the body is compressed.", {"type": "string", "enum": ["", "identity", *ENCODINGS]}),
}
_OF_INFERENCE = {
    "X-Request-Timeout": (
        "Seconds above 0 after which the answer is not wanted any more, like 0.5, 1e-3 or 100000.",
        {"type": "string", "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"},
    ),
}
_VERSION = {"type": "string", "pattern": "^[0-9]{1,20}$"}


_SCHEMES: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a token."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same in another header."},
}


def correct(document: dict[str, Any], restrictions: Restrictions, access: Access) -> None:
    """Make the document exact: what is said of each route is what it takes and answers, and all of that."""
    _leave_out_fastapis_refusals(document)
    for schema in document["components"]["schemas"].values():
        _leave_out_nulls(schema)
    for path, method, operation in _operations(document):
        if "{model_version}" in path:
            _say_what_a_version_is(operation)
        if "{" in path:
            _add_error(operation, "404", "A name in the path has a control character")
        if "requestBody" in operation:
            _add_headers(operation, _OF_ANY_BODY)
            _add_error(operation, "415", "The body's Content-Encoding is not known")
        if "504" in operation["responses"]:
            _add_headers(operation, _OF_INFERENCE)
        if header := restrictions.header_of(category_of(path)):
            _add_headers(operation, {header: ("What the operator asks for.", {"type": "string"})})
            _add_error(operation, "403", "The header that the operator asks for is not there, or has another value")
        elif restrictions and "{" in path:
            _add_error(operation, "403", "The path is no route's, and the operator restricted some")
        _say_who_may(operation, method, path, access)
    if access.needs_credentials:
        document["components"]["securitySchemes"] = dict(_SCHEMES)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _say_who_may(operation: dict[str, Any], method: str, path: str, access: Access) -> None:
    asked = operation_of(method.upper(), path)
    if asked is None or not asked.operation.scopes:
        return
    if access.needs_credentials:
        operation["security"] = [{scheme: []} for scheme in _SCHEMES]
        _add_error(operation, "401", "There is no key, or none that the server knows")
        _add_error(operation, "403", "The key does not have the scope: " + " or ".join(asked.operation.scopes))
    elif access.guards and asked.operation.is_admin:
        _add_error(operation, "403", "Administration is not open to who asks")


def _leave_out_fastapis_refusals(document: dict[str, Any]) -> None:
    """No route has a parameter that FastAPI could refuse, yet it lists its 422 for all that have one."""
    for _, _, operation in _operations(document):
        operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _leave_out_nulls(schema: dict[str, Any]) -> None:
    """What a body may be without is left out of it, never null."""
    for member in schema.get("properties", {}).values():
        if any(choice == {"type": "null"} for choice in member.get("anyOf", ())):
            choices = [choice for choice in member.pop("anyOf") if choice != {"type": "null"}]
            member |= choices[0] if len(choices) == 1 else {"anyOf": choices}
            member.pop("default", None)


def _say_what_a_version_is(operation: dict[str, Any]) -> None:
    for parameter in operation["parameters"]:
        if parameter["name"] == "model_version":
            parameter["schema"] = _VERSION
    _add_error(operation, "400", "The version is not a whole number")


def _add_headers(operation: dict[str, Any], headers: Mapping[str, tuple[str, dict[str, Any]]]) -> None:
    operation.setdefault("parameters", []).extend(
        {"name": name, "in": "header", "required": False, "description": description, "schema": schema}
        for name, (description, schema) in headers.items()
    )


def _add_error(operation: dict[str, Any], status: str, description: str) -> None:
    operation["responses"].setdefault(status, {"description": description, "content": _ERROR})
