"""What the operator chose for the server as what each of its replicas is told."""

from ortolan.core.cache_config import parse_cache_config
from ortolan.core.memory_amount import amount_of
from ortolan.core.memory_meter import available_bytes
from ortolan.settings import Settings


def replica_settings(settings: Settings, ports: dict[str, int]) -> Settings:
    """``settings`` with the ``ports`` that were reserved, by their fields; and of what all may hold, one's part.

    Raises StartupError for a wrong ``--cache-config``.
    """
    cache_bytes = parse_cache_config(settings.cache_config, settings.response_cache_byte_size)
    budget = settings.model_memory_budget
    parts = {
        "cache_config": (),
        "response_cache_byte_size": cache_bytes // settings.processes,
        "model_memory_budget": str(amount_of(budget, available_bytes()) // settings.processes) if budget else "",
    }
    return settings.model_copy(update={**ports, **parts})
