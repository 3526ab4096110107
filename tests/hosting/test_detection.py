from collections.abc import Mapping

import pytest
from hosting_trees import surroundings

from ortolan.errors import StartupError
from ortolan.hosting.detection import hosting_of

KNATIVE = {"K_SERVICE": "iris", "K_REVISION": "iris-1", "K_CONFIGURATION": "iris", "PORT": "8080"}
CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
AZURE = {"AZUREML_MODEL_DIR": "/var/azureml-app/azureml-models/iris/1"}


@pytest.mark.parametrize(
    ("environment", "directories", "told", "platform"),
    [
        ({}, (), False, None),
        ({}, ("/mnt/models",), False, None),  # a name that anybody may give a directory
        (KNATIVE, (), False, "Knative"),
        (KNATIVE, (), True, "Knative"),
        ({"PORT": "5000"}, (), False, None),  # common in shells
        ({"K_SERVICE": ""}, (), False, None),
        (CLUSTER, (), False, None),
        (CLUSTER, ("/mnt/models",), False, "KServe"),
        (CLUSTER, ("/mnt/models",), True, None),  # somebody's own Deployment, which says what it serves
        ({"MODEL_INIT_MODE": "async"}, (), False, "KServe"),
        ({"MODEL_INIT_MODE": "async", **CLUSTER}, (), True, "KServe"),
        ({"MODEL_INIT_MODE": "async"}, (), True, None),  # in a shell of somebody who says what to serve
        ({"MODEL_INIT_MODE": "lazy"}, (), True, None),  # another program's
        ({"MULTI_MODEL_SERVER": "true", **CLUSTER}, (), True, "KServe"),
        ({"MULTI_MODEL_SERVER": "true"}, (), True, None),
        ({"SAGEMAKER_TRITON_PORT": "tcp://10.0.0.1:80", "SAGEMAKER_TRITON_SERVICE_HOST": "10.0.0.1"}, (), True, None),
        ({"SAGEMAKER_MULTI_MODEL": "false"}, (), True, None),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, (), True, "SageMaker"),
        ({"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "m"}, (), True, "SageMaker"),
        ({"MULTI_MODEL_SERVER": "false"}, (), True, None),
        ({"STORAGE_URI": "gs://b/m"}, ("/mnt/models",), True, "KServe"),
        ({"STORAGE_URI": "gs://b/m"}, (), True, None),
        ({**KNATIVE, **CLUSTER}, ("/mnt/models",), False, "KServe"),  # KServe on Knative
        ({**KNATIVE, **AZURE, "MODEL_INIT_MODE": "async"}, (), False, "AzureML"),  # the first that is asked
        (AZURE, (), True, "AzureML"),
        ({"AZUREML_MODEL_DIR": ""}, (), False, None),
    ],
)
def test_a_platform_is_known_by_its_signs(
    environment: Mapping[str, str], directories: tuple[str, ...], told: bool, platform: str | None
) -> None:
    found = hosting_of(surroundings(environment, *directories, models_are_told=told))
    assert (found.platform if found else None) == platform


@pytest.mark.parametrize(
    ("choice", "platform"),
    [("auto", "KServe"), ("none", None), ("kserve", "KServe"), ("knative", "Knative"), ("azureml", "AzureML")],
)
def test_a_choice_beats_the_signs(choice: str, platform: str | None) -> None:
    found = hosting_of(surroundings({**KNATIVE, "MODEL_INIT_MODE": "async"}), choice)
    assert (found.platform if found else None) == platform


def test_a_bare_port_counts_where_the_contract_is_chosen() -> None:
    found = hosting_of(surroundings({"PORT": "5000"}), "knative")
    assert found is not None
    assert found.settings["http_port"] == found.settings["grpc_port"] == "5000"


@pytest.mark.parametrize(("choice", "told", "path"), [("auto", False, "/models"), ("none", False, "/models")])
def test_the_images_own_place_is_served_where_nobody_names_another(choice: str, told: bool, path: str) -> None:
    found = hosting_of(surroundings({}, "/models", models_are_told=told), choice)
    assert found is not None
    assert (found.platform, found.model_path, found.settings) == ("", path, {})
    assert hosting_of(surroundings({}, "/models", models_are_told=True), choice) is None


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "80 90", "٣", "9" * 5000])
def test_a_port_that_is_none_is_refused_by_the_name_of_its_variable(port: str) -> None:
    with pytest.raises(StartupError, match="the environment variable PORT must be a port from 1 to 65535"):
        hosting_of(surroundings({**KNATIVE, "PORT": port}))
