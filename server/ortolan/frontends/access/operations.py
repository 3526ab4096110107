"""What can be asked of the server, and which scope that needs: one table for REST and gRPC.

A list of what is allowed, not of what is forbidden: what is not in it is closed as soon as anything is.
"""

from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from ortolan.frontends.access.grants import Scope


class Concern(Enum):
    """What an operation is about: a scope that is held for some models only does not reach everything."""

    SERVER = auto()
    """The server itself, and no model: whoever holds the scope for any model may."""
    MODEL = auto()
    """The model that the request names; all of them where it names none."""
    EVERYTHING = auto()
    """All models at once: the scope has to be held for all."""


@dataclass(frozen=True, slots=True)
class Operation:
    """``category`` is Triton's ("" for none). One of ``scopes`` is needed; none of them: open to everybody."""

    name: str
    category: str
    scopes: tuple[Scope, ...]
    concern: Concern

    @property
    def is_admin(self) -> bool:
        return self.scopes == (Scope.ADMIN,)


_OPEN: tuple[Scope, ...] = ()
_READ = (Scope.READ,)
_INFER = (Scope.INFER,)
_ADMIN = (Scope.ADMIN,)
_ASKING = (Scope.INFER, Scope.READ)

_TABLE = (
    # Balancers, Kubernetes and who looks for the documentation have no key.
    ("ServerLive", "health", _OPEN, Concern.SERVER),
    ("ServerReady", "health", _OPEN, Concern.SERVER),
    ("Check", "health", _OPEN, Concern.SERVER),
    ("Watch", "health", _OPEN, Concern.SERVER),
    ("ServerReflectionInfo", "", _OPEN, Concern.SERVER),
    ("Documentation", "", _OPEN, Concern.SERVER),
    ("OpenApiDocument", "metadata", _OPEN, Concern.SERVER),
    # Whether a model is ready is whether it exists.
    ("ModelReady", "health", _ASKING, Concern.MODEL),
    ("V1ModelReady", "metadata", _ASKING, Concern.MODEL),
    ("ServerMetadata", "metadata", _READ, Concern.SERVER),
    ("ModelMetadata", "metadata", _READ, Concern.MODEL),
    ("ModelList", "metadata", _READ, Concern.EVERYTHING),
    ("ModelConfig", "model-config", _READ, Concern.MODEL),
    ("ModelStatistics", "statistics", _READ, Concern.MODEL),
    ("Metrics", "statistics", _READ, Concern.EVERYTHING),
    ("RepositoryIndex", "model-repository", _READ, Concern.EVERYTHING),
    ("ModelInfer", "inference", _INFER, Concern.MODEL),
    ("ModelStreamInfer", "inference", _INFER, Concern.MODEL),
    ("RepositoryModelLoad", "model-repository", _ADMIN, Concern.MODEL),
    ("RepositoryModelUnload", "model-repository", _ADMIN, Concern.MODEL),
    # Regions have keys, which are as good as what is in them.
    ("SystemSharedMemoryStatus", "shared-memory", _ADMIN, Concern.EVERYTHING),
    ("SystemSharedMemoryRegister", "shared-memory", _ADMIN, Concern.EVERYTHING),
    ("SystemSharedMemoryUnregister", "shared-memory", _ADMIN, Concern.EVERYTHING),
    ("CudaSharedMemoryStatus", "shared-memory", _ADMIN, Concern.EVERYTHING),
    ("CudaSharedMemoryRegister", "shared-memory", _ADMIN, Concern.EVERYTHING),
    ("CudaSharedMemoryUnregister", "shared-memory", _ADMIN, Concern.EVERYTHING),
    # One method of gRPC is both: what it needs is known when it has been read.
    ("TraceSetting", "trace", _READ, Concern.MODEL),
    ("TraceChange", "trace", _ADMIN, Concern.MODEL),
    ("LogSettings", "logging", _READ, Concern.EVERYTHING),
    ("LogChange", "logging", _ADMIN, Concern.EVERYTHING),
)

OPERATIONS = MappingProxyType({row[0]: Operation(*row) for row in _TABLE})
"""By name: that of the gRPC method where there is one."""

CHANGES = MappingProxyType({"TraceSetting": OPERATIONS["TraceChange"], "LogSettings": OPERATIONS["LogChange"]})
"""What methods of gRPC come to that change what they otherwise tell."""
