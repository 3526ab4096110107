"""Letting an operation happen: where it may, and with a line in the log where it changes something."""

import logging

from ortolan.errors import Forbidden
from ortolan.frontends.access.grants import Grant
from ortolan.frontends.access.operations import Operation
from ortolan.frontends.access.permission import check
from ortolan.inference.printable import printable

_log = logging.getLogger(__name__)
_SHOWN = 128


def admit(grant: Grant, operation: Operation, model: str | None) -> None:
    """``permission.check``, and who it was in the log: at INFO for administration, at DEBUG for refusals."""
    try:
        check(grant, operation, model)
    except Forbidden:
        _log.debug("%s of %s was refused to '%s'", operation.name, _shown(model), grant.holder)
        raise
    if operation.is_admin and not grant.is_anybodys:
        _log.info("%s of %s by '%s'", operation.name, _shown(model), grant.holder)


def _shown(model: str | None) -> str:
    return "the server" if model is None else f"'{printable(model, _SHOWN)}'"
