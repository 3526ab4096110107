"""Which ensembles depend on which models: what to look at again, what nobody needs any more, and circles. Pure.

``uses`` is for each ensemble the models of its steps, some of which may be ensembles.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from ortolan.repository.model_config import NEWEST_VERSION, ModelConfig

Uses = Mapping[str, Collection[str]]


def dependents(name: str, uses: Uses) -> tuple[str, ...]:
    """The ensembles that need ``name``, also by way of others: each after those of them that it needs itself."""
    left = [ensemble for ensemble in sorted(uses) if ensemble != name and name in below((ensemble,), uses)]
    order: list[str] = []
    while left:
        ready = [ensemble for ensemble in left if not any(other in uses[ensemble] for other in left)]
        # Those in a circle wait for each other: they are refused elsewhere, and have no order.
        taken = ready or left
        order += taken
        left = [ensemble for ensemble in left if ensemble not in taken]
    return tuple(order)


def circle(name: str, uses: Uses) -> tuple[str, ...]:
    """A way from ``name`` through the models that it needs back to itself, which is at both ends; () for none."""
    came_from: dict[str, str] = {}
    pending = [name]
    while pending:
        at = pending.pop()
        for model in sorted(uses.get(at, ())):
            if model == name:
                return _way(name, at, came_from)
            if model not in came_from:
                came_from[model] = at
                pending.append(model)
    return ()


def unneeded(ensemble: str, uses: Uses, asked: Collection[str], loaded: Collection[str]) -> tuple[str, ...]:
    """The models to unload with ``ensemble``: those it needs that were loaded for ensembles only, all of them gone.

    ``asked`` are the models that someone asked for by name, ``loaded`` the ensembles that are served.
    """
    candidates = below((ensemble,), uses) - set(asked) - {ensemble}
    # An ensemble among the candidates goes as well, so what only it needs is not needed either.
    staying = [other for other in loaded if other != ensemble and other not in candidates]
    # Unless one that stays needs it.
    return tuple(sorted(candidates - below(staying, uses)))


def missing_step(config: ModelConfig, models: Sequence[str], loaded: Mapping[str, Collection[int]]) -> str:
    """The first step of the ensemble whose model is not loaded, in a sentence; "" when all are.

    ``models`` are the names of the steps' models, ``loaded`` the numbers of their versions that are.
    """
    for name, step in zip(models, config.ensemble_steps, strict=True):
        numbers = loaded.get(name, ())
        if not numbers:
            return f"ensemble '{config.name}' depends on '{name}' which has no loaded version"
        if step.model_version != NEWEST_VERSION and step.model_version not in numbers:
            required = f"whose required version {step.model_version} is not loaded"
            return f"ensemble '{config.name}' depends on '{name}' {required}"
    return ""


def below(names: Iterable[str], uses: Uses) -> set[str]:
    """Everything that ``names`` need, also by way of others."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        for model in uses.get(pending.pop(), ()):
            if model not in found:
                found.add(model)
                pending.append(model)
    return found


def _way(name: str, end: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    way = [name, end]
    while way[-1] != name:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))
