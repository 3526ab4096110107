from pathlib import Path

import pytest
from hosting_trees import surroundings

from ortolan.hosting.azureml import AZUREML
from ortolan.hosting.contract import Surroundings
from ortolan.hosting.local_files import LocalFiles

REGISTERED = "/var/azureml-app/azureml-models/iris/3"


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        (REGISTERED, "iris"),
        (REGISTERED + "/", "iris"),
        ("/var/azureml-app/azureml-models/iris/second", "iris"),  # versions may be words
        ("/mnt/own/iris/7", "iris"),  # where model_mount_path says so
        ("/var/azureml-app/azureml-models", None),  # several models
        ("/mnt/own", None),
    ],
)
def test_a_model_has_the_name_that_it_is_registered_under(directory: str, name: str | None) -> None:
    assert AZUREML.hosting(surroundings({"AZUREML_MODEL_DIR": directory})).settings.get("model_name") == name


@pytest.mark.parametrize(
    ("files", "served"),
    [
        (["model.onnx"], ""),
        (["a.onnx", "b.onnx"], ""),
        (["1/model.onnx"], ""),  # versions of one model
        (["iris/1/model.onnx"], ""),  # a repository
        (["iris/1/model.onnx", "digits/1/model.onnx"], ""),
        (["iris/config.pbtxt"], ""),
        (["iris/model.onnx"], ""),
        (["iris.onnx/model.onnx"], ""),
        (["folder/iris.onnx"], "folder"),
        (["folder/iris/1/model.onnx"], "folder"),
        (["folder/iris/1/model.onnx", "folder/digits/1/model.onnx"], "folder"),
        (["folder/.amlignore", "folder/inner/iris/1/model.onnx"], "folder/inner"),
        (["a/b/c/d/e/iris/1/model.onnx"], "a/b/c"),
        ([], ""),
    ],
)
def test_the_folder_that_was_uploaded_is_looked_into(files: list[str], served: str, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = AZUREML.hosting(Surroundings({"AZUREML_MODEL_DIR": str(tmp_path)}, LocalFiles()))
    assert Path(found.model_path) == tmp_path / served
