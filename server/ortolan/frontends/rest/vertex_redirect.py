"""``X-Vertex-Ai-Triton-Redirect``: how a request to Vertex AI's one path reaches another route of the protocol.

The platform lets through POST to one path only. The header names the route that is meant: ``v2/models/m/stats``. What
changes the server is not to be reached so.
"""

from ortolan.errors import Forbidden
from ortolan.frontends.access.operations import Operation
from ortolan.frontends.rest.operations import operation_of

REDIRECT = b"x-vertex-ai-triton-redirect"
"""The header, in lower case."""

# They are for who administers the server, and change nothing.
_SHOWING = frozenset({"SystemSharedMemoryStatus", "CudaSharedMemoryStatus"})
# They are for people, who do not come this way.
_PAGES = frozenset({"Documentation", "OpenApiDocument"})
# A path that takes both shows by GET what POST changes, which leads nowhere, or is a model's name with a verb.
_METHODS = ("POST", "GET")


def redirected(text: str) -> tuple[str, str]:
    """The method and the path that the header's ``text`` means. Raises Forbidden for what may not be reached so."""
    path = "/" + text.strip().strip("/")
    for method in _METHODS:
        asked = operation_of(method, path)
        if asked is not None and _leads_to(asked.operation):
            return method, path
    raise Forbidden(
        "X-Vertex-Ai-Triton-Redirect leads to routes that infer or show something, such as v2/models/NAME/infer, "
        "v2/models/NAME/stats or v2/repository/index, and to no others"
    )


def _leads_to(operation: Operation) -> bool:
    if operation.name in _PAGES:
        return False
    return not operation.is_admin or operation.name in _SHOWING
