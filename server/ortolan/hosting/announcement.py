"""What a person is told of the platform that a server found itself on."""

from collections.abc import Callable, Collection

from ortolan.hosting.contract import Hosting


def announcement(hosting: Hosting, flag_of: Callable[[str], str], given: Collection[str]) -> str:
    """One line: which contract was found, and what comes of it.

    ``given`` are the settings that people gave, which beat the platform's.
    """
    parts = [f"{flag_of(name)}={value}" for name, value in hosting.settings.items() if name not in given]
    if hosting.model_path and "model_repository" not in given:
        parts.append(f"models from {hosting.model_path}")
    comes = ", ".join(parts) or "nothing that was not said already"
    if not hosting.platform:
        return f"Nothing says what to serve: {comes}"
    return f"On {hosting.platform}, by its environment: {comes}  (--hosting=none takes no notice of it)"
