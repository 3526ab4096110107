"""Which operation a request over HTTP asks for: by its method and its path, as the router has it."""

import re
from typing import NamedTuple

from ortolan.frontends.access.operations import OPERATIONS, Operation

_MODEL = r"/v2/models/(?P<model>[^/]+)"
_VERSION = rf"{_MODEL}(?:/versions/[^/]+)?"
_REPOSITORY = r"/v2/repository/models/(?P<model>[^/]+)"

# In this order: the first that matches the whole path decides. An operation for each method.
_ROUTES = tuple(
    (re.compile(pattern, re.DOTALL), methods)
    for pattern, methods in (
        (r"/|/v2/health/live", {"GET": "ServerLive"}),
        (r"/v2/health/ready|/ping", {"GET": "ServerReady"}),
        (rf"{_VERSION}/ready", {"GET": "ModelReady"}),
        (rf"{_VERSION}/(?:infer|generate|generate_stream)", {"POST": "ModelInfer"}),
        (r"/v1/models/(?P<model>[^/]+):[^/:]+", {"POST": "ModelInfer"}),
        (rf"{_VERSION}/config", {"GET": "ModelConfig"}),
        (rf"/v2/models/stats|{_VERSION}/stats", {"GET": "ModelStatistics"}),
        (rf"/v2/trace/setting|{_MODEL}/trace/setting", {"GET": "TraceSetting", "POST": "TraceChange"}),
        (r"/v2/logging", {"GET": "LogSettings", "POST": "LogChange"}),
        (r"/v2/repository/index", {"POST": "RepositoryIndex"}),
        (rf"{_REPOSITORY}/load", {"POST": "RepositoryModelLoad"}),
        (rf"{_REPOSITORY}/unload", {"POST": "RepositoryModelUnload"}),
        (r"/v2/systemsharedmemory(?:/region/[^/]+)?/status", {"GET": "SystemSharedMemoryStatus"}),
        (r"/v2/systemsharedmemory/region/[^/]+/register", {"POST": "SystemSharedMemoryRegister"}),
        (r"/v2/systemsharedmemory(?:/region/[^/]+)?/unregister", {"POST": "SystemSharedMemoryUnregister"}),
        (r"/v2/cudasharedmemory(?:/region/[^/]+)?/status", {"GET": "CudaSharedMemoryStatus"}),
        (r"/v2/cudasharedmemory/region/[^/]+/register", {"POST": "CudaSharedMemoryRegister"}),
        (r"/v2/cudasharedmemory(?:/region/[^/]+)?/unregister", {"POST": "CudaSharedMemoryUnregister"}),
        (r"/v2", {"GET": "ServerMetadata"}),
        (r"/v2/models|/v1/models", {"GET": "ModelList"}),
        (_VERSION, {"GET": "ModelMetadata"}),
        (r"/v1/models/(?P<model>[^/]+)", {"GET": "V1ModelReady"}),
        (r"/metrics", {"GET": "Metrics"}),
        (r"/openapi\.json", {"GET": "OpenApiDocument"}),
        (r"/docs(?:/[^/]+)?", {"GET": "Documentation"}),
    )
)


class Asked(NamedTuple):
    """An operation, and the model that it is about where the path names one."""

    operation: Operation
    model: str | None


def operation_of(method: str, path: str) -> Asked | None:
    """What ``method`` on ``path`` (decoded) asks for; None where no route answers that. HEAD asks what GET does."""
    method = "GET" if method == "HEAD" else method
    for pattern, methods in _ROUTES:
        if method in methods and (found := pattern.fullmatch(path)) is not None:
            return Asked(OPERATIONS[methods[method]], found.groupdict().get("model"))
    return None


def category_of(path: str) -> str | None:
    """Triton's category of a route by its path; None for the documentation's page, and for paths that no route has."""
    for pattern, methods in _ROUTES:
        if pattern.fullmatch(path) is not None:
            return OPERATIONS[next(iter(methods.values()))].category or None
    return None


def is_protocol(path: str) -> bool:
    """Whether ``path`` is where the protocol's routes are, so that it must have a category to be open."""
    return path.startswith(("/v1", "/v2"))
