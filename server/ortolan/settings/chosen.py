"""Everything that the operator chose: one frozen object, checked once."""

from pydantic import ConfigDict, field_validator, model_validator

from ortolan.settings.access import AccessSettings
from ortolan.settings.access_rules import refuse_wrong_access
from ortolan.settings.execution import ExecutionSettings
from ortolan.settings.grpc import GrpcSettings
from ortolan.settings.hosting import HostingSettings
from ortolan.settings.hosting_routes import HostingRouteSettings
from ortolan.settings.hosting_rules import refuse_wrong_hosting_routes
from ortolan.settings.http import HttpSettings
from ortolan.settings.integrity import IntegritySettings
from ortolan.settings.models import ModelSettings
from ortolan.settings.observation import ObservationSettings
from ortolan.settings.rules import (
    refuse_no_door,
    refuse_wrong_budgets,
    refuse_wrong_loads,
    refuse_wrong_ports,
    refuse_wrong_processes,
    refuse_wrong_signers,
)
from ortolan.settings.tls_rules import refuse_wrong_tls
from ortolan.settings.token_rules import refuse_wrong_tokens

_RULES = (
    refuse_wrong_loads,
    refuse_no_door,
    refuse_wrong_signers,
    refuse_wrong_budgets,
    refuse_wrong_processes,
    refuse_wrong_access,
    refuse_wrong_tokens,
    refuse_wrong_tls,
    refuse_wrong_ports,
    refuse_wrong_hosting_routes,
)


class Settings(
    HostingRouteSettings,
    HostingSettings,
    ObservationSettings,
    GrpcSettings,
    AccessSettings,
    HttpSettings,
    IntegritySettings,
    ExecutionSettings,
    ModelSettings,
):
    """Valid by existing. Durations are seconds, sizes are bytes. The fields of the last base come first."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @field_validator(
        "model_repository",
        "load_model",
        "rate_limit_resource",
        "model_signature_key",
        "model_signature_certificate",
        "model_key_file",
        "pin_model",
        "http_allowed_host",
        mode="before",
    )
    @classmethod
    def _several(cls, value: object) -> object:
        """One text, as the environment has it, stands for a list parted by commas. Blank parts are none."""
        return _parts(value, ",")

    @field_validator(
        "http_restricted_api",
        "grpc_restricted_protocol",
        "trace_config",
        "cache_config",
        "metrics_config",
        mode="before",
    )
    @classmethod
    def _several_with_commas(cls, value: object) -> object:
        """As above, but parted by semicolons, because each part may have commas of its own."""
        return _parts(value, ";")

    @field_validator("*", mode="before")
    @classmethod
    def _without_blanks(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        for refuse in _RULES:
            refuse(self)
        return self

    @property
    def one_port(self) -> bool:
        """Whether HTTP and gRPC are on the same port."""
        return self.allow_http and self.allow_grpc and self.http_port == self.grpc_port != 0

    @property
    def metrics_host(self) -> str:
        return self.metrics_address or self.http_address


def _parts(value: object, separator: str) -> object:
    if isinstance(value, str):
        value = value.split(separator)
    return [part.strip() for part in map(str, value) if part.strip()] if isinstance(value, list) else value
