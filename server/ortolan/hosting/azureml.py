"""Azure Machine Learning's managed online endpoints: AZUREML_MODEL_DIR has what was registered as a model.

The port and the routes of probes and scoring are what a deployment's ``inference_config`` says, so that there is
nothing to learn of them here.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from ortolan.hosting.contract import EVERY_ADDRESS, Contract, Files, Hosting, Surroundings

_VARIABLE = "AZUREML_MODEL_DIR"
_REGISTERED = "azureml-models"
# A folder in a folder in a folder is what people upload; more is something else.
_DEEPEST = 3
_OF_MODELS = frozenset({"model.onnx", "config.pbtxt", "configs"})


def _is_meant(surroundings: Surroundings) -> bool:
    return bool(surroundings.environment.get(_VARIABLE))


def _hosting(surroundings: Surroundings) -> Hosting:
    directory = surroundings.environment.get(_VARIABLE, "")
    settings = {"http_address": EVERY_ADDRESS, "grpc_address": EVERY_ADDRESS}
    if name := _registered_name(PurePosixPath(directory)):
        settings["model_name"] = name
    return Hosting("AzureML", settings, _served(directory, surroundings.files) if directory else "")


def _registered_name(directory: PurePosixPath) -> str:
    """The model's name, of ``…/NAME/VERSION``; "" for the directory of several models, or another one."""
    is_version = directory.name.isdecimal() or directory.parent.parent.name == _REGISTERED
    return directory.parent.name if is_version else ""


def _served(directory: str, files: Files) -> str:
    """What of it is to be served: a folder is uploaded with its own name, which stands between."""
    for _ in range(_DEEPEST):
        names = files.names(directory)
        inner = f"{directory.rstrip('/')}/{names[0]}" if len(names) == 1 else ""
        if not inner or not files.is_directory(inner) or _is_model(names[0], files.names(inner)):
            return directory
        directory = inner
    return directory


def _is_model(name: str, inside: Sequence[str]) -> bool:
    """Whether a directory with that name, and those names in it, is a model of a repository, or a model's version."""
    if name.isdecimal() or name.endswith(".onnx"):
        return True
    return any(each.isdecimal() or each in _OF_MODELS for each in inside)


AZUREML = Contract("azureml", _is_meant, _hosting)
