"""Which of Triton's categories a path belongs to, for restricting them."""

import re

_MODEL = r"/v2/models/[^/]+"
_VERSION = rf"{_MODEL}(?:/versions/[^/]+)?"

# In this order: the first that matches the whole path decides.
_CATEGORIES = tuple(
    (re.compile(pattern, re.DOTALL), category)
    for pattern, category in (
        (r"/|/v2/health/.*", "health"),
        (rf"{_VERSION}/ready", "health"),
        (rf"{_VERSION}/(?:infer|generate|generate_stream)", "inference"),
        (r"/v1/models/[^/]+:[^/:]+", "inference"),
        (rf"{_VERSION}/config", "model-config"),
        (rf"{_VERSION}/stats|/v2/models/stats", "statistics"),
        (rf"(?:/v2|{_MODEL})/trace/setting", "trace"),
        (r"/v2/logging", "logging"),
        (r"/v2/repository/.*", "model-repository"),
        (r"/v2/(?:system|cuda)sharedmemory/.*", "shared-memory"),
        (rf"/v2(?:/models)?|{_VERSION}|/v1/models(?:/[^/]+)?", "metadata"),
        # It says what the models are called.
        (r"/openapi\.json", "metadata"),
    )
)


def category_of(path: str) -> str | None:
    """The category of a route by its path; None for the documentation's page, and for paths that no route has."""
    return next((category for pattern, category in _CATEGORIES if pattern.fullmatch(path)), None)


def is_protocol(path: str) -> bool:
    """Whether ``path`` is where the protocol's routes are, so that it must have a category to be open."""
    return path.startswith(("/v1", "/v2"))
