import pytest

from ortolan.errors import StartupError
from ortolan.settings import read_settings

EXPLICIT = {"model_control_mode": "explicit"}
MANY = {**EXPLICIT, "allow_sagemaker": "true", "sagemaker_multi_model": "true"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"allow_sagemaker": "true", "allow_http": "false"}, "--allow-sagemaker needs the HTTP port"),
        ({"allow_vertex_ai": "true", "allow_http": "false"}, "--allow-vertex-ai needs the HTTP port"),
        ({"sagemaker_multi_model": "true", **EXPLICIT}, "--sagemaker-multi-model needs --allow-sagemaker"),
        ({"sagemaker_multi_model": "true", "allow_sagemaker": "true"}, "and --model-control-mode=explicit"),
        ({**MANY, "load_on_demand": "true"}, "--sagemaker-multi-model excludes --load-on-demand"),
        ({"allow_vertex_ai": "true", "vertex_ai_predict_route": ""}, "--vertex-ai-predict-route expects the path"),
    ],
)
def test_where_a_platform_could_not_ask_it_is_said(flags: dict[str, str], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        read_settings(flags, {})


def test_several_processes_may_have_a_budget_where_nothing_is_unloaded_for_others() -> None:
    both = {"processes": "2", "model_memory_budget": "1GiB"}
    assert read_settings({**MANY, **both}, {}).processes == 2
    with pytest.raises(StartupError, match="excludes --model-memory-budget in explicit mode"):
        read_settings({**EXPLICIT, **both}, {})
