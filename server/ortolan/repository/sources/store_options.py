"""What an object store's client is told: credentials and places from the environment and the providers' files.

The client itself reads ``AWS_*``, ``GOOGLE_*`` and ``AZURE_*`` as its documentation lists them. Here is what it does
not know: AWS' files of credentials, the names that Azure's and Triton's tools use, and Triton's file of credentials for
several stores, ``TRITON_CLOUD_CREDENTIAL_PATH``.
"""

import configparser
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ortolan.errors import StartupError
from ortolan.repository.sources.source_address import ObjectAddress

TRITON_CREDENTIALS = "TRITON_CLOUD_CREDENTIAL_PATH"

Options = dict[str, Any]

_DEFAULT_REGION = "us-east-1"
_ENDPOINT_VARIABLES = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("STORAGE_EMULATOR_HOST", "GOOGLE_BASE_URL"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


def store_options(address: ObjectAddress, environment: Mapping[str, str]) -> Options:
    """The client's configuration for ``address``.

    Raises StartupError, naming the file or the variable and never its content, when something in it is wrong.
    """
    given = _triton_credentials(address, environment)
    match address.kind:
        case "s3":
            options = _s3(given, environment)
        case "gs":
            options = {"application_credentials": given} if isinstance(given, str) and given else {}
        case "az":
            options = _azure(address, given, environment)
    endpoint = endpoint_of(address, environment)
    if endpoint:
        options["base_url" if address.kind == "gs" else "endpoint"] = endpoint
    if address.kind == "gs" and environment.get("STORAGE_EMULATOR_HOST"):
        options["skip_signature"] = True
    return options


def endpoint_of(address: ObjectAddress, environment: Mapping[str, str]) -> str:
    """Where the store answers, if not at its provider's usual place; a host without a scheme is meant with HTTP."""
    if address.endpoint:
        return address.endpoint
    endpoint = next((environment[name] for name in _ENDPOINT_VARIABLES[address.kind] if environment.get(name)), "")
    return endpoint if not endpoint or "://" in endpoint else f"http://{endpoint}"


def _s3(given: object, environment: Mapping[str, str]) -> Options:
    fields = {"key_id": "access_key_id", "secret_key": "secret_access_key", "session_token": "session_token"}
    options = _renamed(given, fields | {"region": "region"})
    named = str(given.get("profile") or "") if isinstance(given, dict) else ""
    if "access_key_id" not in options and not named:
        options |= _renamed(environment, {f"AWS_{field.upper()}": field for field in fields.values()})
    profile = _aws_profile(named or environment.get("AWS_PROFILE", ""), environment)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or profile.pop("region", None)
    options.setdefault("region", region or _DEFAULT_REGION)
    # Keys in the environment go before those of a profile, as in AWS' own tools.
    return options if "access_key_id" in options else profile | options


def _aws_profile(profile: str, environment: Mapping[str, str]) -> Options:
    """Keys and region of a profile in AWS' files; of the default one, which need not be there, for ""."""
    home = Path(environment.get("HOME") or "~").expanduser()
    credentials = _ini(Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"))
    config = _ini(Path(environment.get("AWS_CONFIG_FILE") or home / ".aws" / "config"))
    keys = _section(credentials, profile or "default")
    settings = _section(config, f"profile {profile}" if profile and profile != "default" else "default")
    if profile and not keys and not settings:
        raise StartupError(f"there is no AWS profile '{profile}' in the AWS credentials and config files")
    fields = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region")
    return _renamed({**settings, **keys}, {field: field.removeprefix("aws_") for field in fields})


def _azure(address: ObjectAddress, given: object, environment: Mapping[str, str]) -> Options:
    options = _renamed(given, {"account_str": "account_name", "account_key": "account_key"})
    if environment.get("AZURE_STORAGE_ACCOUNT"):
        options.setdefault("account_name", environment["AZURE_STORAGE_ACCOUNT"])
    if environment.get("AZURE_STORAGE_KEY"):
        options.setdefault("account_key", environment["AZURE_STORAGE_KEY"])
    if address.account:
        options["account_name"] = address.account
    if "account_name" not in options and not environment.get("AZURE_STORAGE_ACCOUNT_NAME"):
        raise StartupError(
            f"{address.shown} does not say which storage account: set AZURE_STORAGE_ACCOUNT, or write "
            "as://account/container/path"
        )
    return options


def _triton_credentials(address: ObjectAddress, environment: Mapping[str, str]) -> object:
    """What Triton's file has for the longest start of the address; None without one."""
    path = environment.get(TRITON_CREDENTIALS)
    if not path:
        return None
    try:
        document = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        raise StartupError(f"the file that {TRITON_CREDENTIALS} names cannot be read, or is no JSON") from None
    section = document.get("as" if address.kind == "az" else address.kind, {}) if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise StartupError(f'the file that {TRITON_CREDENTIALS} names must be like {{"s3": {{"": {{...}}}}}}')
    fitting = [start for start in section if _is_within(address.shown, start)]
    return section[max(fitting, key=len)] if fitting else None


def _is_within(address: str, start: str) -> bool:
    start = start.rstrip("/")
    return not start or address == start or address.startswith(f"{start}/")


def _renamed(given: object, names: Mapping[str, str]) -> Options:
    """The fields of ``given`` that are not empty, by the client's names."""
    if not isinstance(given, Mapping):
        return {}
    return {ours: str(given[theirs]) for theirs, ours in names.items() if given.get(theirs)}


def _ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text())
    except OSError:
        pass  # Most machines have none.
    except (configparser.Error, UnicodeDecodeError):
        raise StartupError(f"'{path}' cannot be read as AWS' files are written") from None
    return parser


def _section(parser: configparser.ConfigParser, name: str) -> Mapping[str, str]:
    return parser[name] if parser.has_section(name) else {}
