"""Settings out of flags and environment; which flag and variable each has."""

import difflib
from collections.abc import Mapping
from typing import Literal, get_args, get_origin

from pydantic import ValidationError

from ortolan.errors import StartupError
from ortolan.hosting.contract import Files, Hosting, Surroundings
from ortolan.hosting.detection import AUTOMATIC, hosting_of
from ortolan.settings.chosen import Settings

ENVIRONMENT_PREFIX = "ORTOLAN_"
MODEL_KEY = "ORTOLAN_MODEL_KEY"

# Whoever gives one relies on it, also where a variable that was to fill it is empty.
_GUARDS = frozenset(
    "api_keys_file jwt_issuer jwt_audience tls_certificate tls_key tls_client_ca tls_client_scopes grpc_server_cert "
    "grpc_server_key grpc_root_cert http_restricted_api grpc_restricted_protocol http_allowed_host model_signature_key "
    "model_signature_certificate model_key_file".split()
)


def model_key_texts(environment: Mapping[str, str]) -> str:
    """The keys of encrypted models from the environment, one a line; no setting, so that no flag shows them."""
    return environment.get(MODEL_KEY, "").replace(",", "\n")


def is_list(field: str) -> bool:
    """Whether the setting may be given several times."""
    return get_origin(Settings.model_fields[field].annotation) is tuple


def choices_of_flags() -> dict[str, tuple[str, ...]]:
    """The values of each flag that takes one of a few."""
    fields = Settings.model_fields.items()
    return {flag_of(name): get_args(each.annotation) for name, each in fields if get_origin(each.annotation) is Literal}


def flag_of(field: str) -> str:
    return "--" + field.replace("_", "-")


def read_settings(
    flags: Mapping[str, object], environment: Mapping[str, str], hosting: Hosting | None = None
) -> Settings:
    """The settings from flags (by field name) and environment, above what ``hosting`` says.

    Raises StartupError naming each wrong one.
    """
    values = {**_hosted(hosting), **given_values(flags, environment)}
    for field in _GUARDS & values.keys():
        if _is_blank(values[field]):
            name = f"{flag_of(field)} ({ENVIRONMENT_PREFIX}{field.upper()})"
            raise StartupError(f"{name} is given and empty, and would guard nothing; give it a value, or leave it out")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise StartupError("; ".join(_explained(problem) for problem in error.errors())) from None


def given_values(flags: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, object]:
    """What people said, by field name: flags beat variables."""
    values: dict[str, object] = {}
    for name, text in environment.items():
        field = name[len(ENVIRONMENT_PREFIX) :].lower() if name.startswith(ENVIRONMENT_PREFIX) else ""
        if field in Settings.model_fields and (text or field in _GUARDS):
            values[field] = text
    return values | dict(flags)


def find_hosting(flags: Mapping[str, object], environment: Mapping[str, str], files: Files) -> Hosting | None:
    """What the platform says of the server, if it is on one. Raises StartupError as ``hosting_of`` does."""
    given = given_values(flags, environment)
    surroundings = Surroundings(environment, files, "model_repository" in given)
    return hosting_of(surroundings, str(given.get("hosting", AUTOMATIC)).strip())


def _hosted(hosting: Hosting | None) -> dict[str, object]:
    if hosting is None:
        return {}
    return {**hosting.settings, **({"model_repository": [hosting.model_path]} if hosting.model_path else {})}


def _is_blank(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return not any(str(text).strip() for text in texts)


def held_requests(environment: Mapping[str, str]) -> int:
    """Triton's hook for tests of schedulers: hold each model's queue until so many requests wait; 0 without it."""
    text = environment.get("TRITONSERVER_DELAY_SCHEDULER", "")
    return int(text) if text.isdecimal() else 0


def likely_misspelt(environment: Mapping[str, str]) -> list[str]:
    """One sentence for each ``ORTOLAN_*`` variable that is nearly one of ours.

    Others are left alone: Kubernetes sets ``ORTOLAN_PORT`` and the like in every pod beside a service called ortolan.
    """
    known = [MODEL_KEY, *(ENVIRONMENT_PREFIX + field.upper() for field in Settings.model_fields)]
    sentences: list[str] = []
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
            sentences += [f"the environment variable {name} has no effect; did you mean {n}?" for n in nearest]
    return sentences


def _explained(problem: Mapping[str, object]) -> str:
    location = problem["loc"]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not isinstance(location, tuple) or not location:
        return message
    field = str(location[0])
    return f"{flag_of(field)} ({ENVIRONMENT_PREFIX}{field.upper()}): {message}, got {str(problem['input'])!r}"
