"""How far a load or an unload reaches beyond its model, for who may administer some models only (pure).

An ensemble runs its steps for whoever may ask it, and a load brings them up: who could make a model an ensemble could
ask every other by it.
"""

import json
from collections.abc import Mapping

from ortolan.core.load_override import CONFIG, UNLOAD_DEPENDENTS
from ortolan.errors import Forbidden
from ortolan.frontends.access.grants import Grant, Scope

_STEPS = ("ensemble_scheduling", "ensembleScheduling")
_TOO_FAR = "needs the scope 'admin' for all models, because it reaches others"


def check_load(grant: Grant, parameters: Mapping[str, object]) -> None:
    """Raises Forbidden where ``parameters`` would make the model an ensemble of others."""
    config = parameters.get(CONFIG)
    if isinstance(config, str) and not grant.allows(Scope.ADMIN, None) and _is_of_ensemble(config):
        raise Forbidden(f"a load with the configuration of an ensemble {_TOO_FAR}")


def check_unload(grant: Grant, parameters: Mapping[str, object]) -> None:
    """Raises Forbidden where models are to go that only the unloaded one needs."""
    if parameters.get(UNLOAD_DEPENDENTS) is True and not grant.allows(Scope.ADMIN, None):
        raise Forbidden(f"'{UNLOAD_DEPENDENTS}' {_TOO_FAR}")


def _is_of_ensemble(config: str) -> bool:
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        # It is refused where it is read.
        return False
    return isinstance(found, dict) and (found.get("platform") == "ensemble" or any(name in found for name in _STEPS))
