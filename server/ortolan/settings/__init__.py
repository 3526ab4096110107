"""What the operator chose: every field is a flag (``http_port`` → ``--http-port``) and an environment variable.

The variable is ``ORTOLAN_HTTP_PORT``; flags beat the environment. Names and defaults are tritonserver's where it has
the flag, but for the addresses: this server listens on 127.0.0.1 unless told otherwise.
"""

from ortolan.settings.chosen import Settings
from ortolan.settings.reading import (
    ENVIRONMENT_PREFIX,
    MODEL_KEY,
    choices_of_flags,
    find_hosting,
    flag_of,
    given_values,
    held_requests,
    is_list,
    likely_misspelt,
    model_key_texts,
    read_settings,
)

__all__ = [
    "ENVIRONMENT_PREFIX",
    "MODEL_KEY",
    "Settings",
    "choices_of_flags",
    "find_hosting",
    "flag_of",
    "given_values",
    "held_requests",
    "is_list",
    "likely_misspelt",
    "model_key_texts",
    "read_settings",
]
