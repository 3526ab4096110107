"""Whether a grant is enough for an operation, and what is said where it is not (pure)."""

from ortolan.errors import Forbidden
from ortolan.frontends.access.grants import Grant
from ortolan.frontends.access.operations import Concern, Operation

_CLOSED = (
    "administration (loading and unloading models, logging, tracing, shared memory) is closed on this address; an "
    "operator can open it to holders of an admin key with --api-keys-file, or to everybody with --admin-operations=open"
)


def check(grant: Grant, operation: Operation, model: str | None) -> None:
    """Raises Forbidden, in which no model is named, where ``grant`` is not enough for ``operation`` on ``model``."""
    if not operation.scopes:
        return
    if operation.concern is Concern.SERVER:
        check_before(grant, operation)
        return
    for scope in operation.scopes:
        if grant.allows(scope, model):
            return
    raise Forbidden(_refusal(grant, operation))


def check_before(grant: Grant, operation: Operation) -> None:
    """``check`` for when it is not known yet which model the request is about."""
    if operation.scopes and not grant.holds(operation.scopes):
        raise Forbidden(_refusal(grant, operation))


def check_either(grant: Grant, operation: Operation, other: Operation) -> None:
    """``check_before`` for when it is not known yet which of two operations is asked for."""
    if not grant.holds(other.scopes):
        check_before(grant, operation)


def _refusal(grant: Grant, operation: Operation) -> str:
    if grant.is_anybodys:
        return _CLOSED
    scopes = " or ".join(f"'{scope}'" for scope in operation.scopes)
    if grant.holds(operation.scopes):
        return f"that needs the scope {scopes}, which who asks has for other models only"
    return f"that needs the scope {scopes}, which who asks does not have"
