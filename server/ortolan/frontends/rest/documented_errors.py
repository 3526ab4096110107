"""The errors that a route which infers can answer with, for its documentation."""

from typing import Any

from ortolan.frontends.rest.bodies import ErrorBody

Responses = dict[int | str, dict[str, Any]]


def error(status: int, description: str) -> Responses:
    """One documented answer that is an error."""
    return {status: {"model": ErrorBody, "description": description}}


def inference_errors() -> Responses:
    """Every error of one inference."""
    return (
        error(400, "The request does not fit the model")
        | error(404, "No such model or version")
        | error(415, "The body's Content-Encoding is not known")
        | error(500, "The model failed")
        | error(503, "The version is not ready, or its queue is full")
        | error(504, "The deadline of X-Request-Timeout passed, or cannot be met")
    )
