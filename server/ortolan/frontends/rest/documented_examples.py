"""Examples in the OpenAPI document for the routes that infer: of a model that is ready, to be sent as they stand."""

from typing import Any

from ortolan.core.inference_core import InferenceCore
from ortolan.core.served_version import ServedVersion
from ortolan.inference.example_request import example_generate, example_predict, is_small

_V2 = "/v2/models/{model_name}"
_EXAMPLES = (
    *((_V2 + version + tail, example_generate)
      for version in ("", "/versions/{model_version}")
      for tail in ("/generate", "/generate_stream")),
    ("/v1/models/{model_name}:predict", example_predict),
)  # fmt: skip


def shown_version(core: InferenceCore) -> ServedVersion | None:
    """The version that examples are for; None while there is none whose example is small."""
    return next((version for version in core.serving() if is_small(version.signature)), None)


def add_examples(paths: dict[str, Any], shown: ServedVersion) -> None:
    """Put examples of the bodies and of the paths' parameters, for ``shown``, into the document's ``paths``."""
    values = {"model_name": shown.name, "model_version": shown.number_text}
    for path, example in _EXAMPLES:
        operation = paths[path]["post"]
        operation["requestBody"]["content"]["application/json"]["example"] = example(shown.signature)
        for parameter in operation["parameters"]:
            parameter["example"] = values[parameter["name"]]
