"""What settings of hosting platforms' routes must obey together."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortolan.settings.chosen import Settings

# What a path can have as it stands, without parameters, a query or anything to decode.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*")


def refuse_wrong_hosting_routes(settings: "Settings") -> None:
    """Raises ValueError where a platform could not ask."""
    s = settings
    for flag, is_on in (("--allow-sagemaker", s.allow_sagemaker), ("--allow-vertex-ai", s.allow_vertex_ai)):
        if is_on and not s.allow_http:
            raise ValueError(f"{flag} needs the HTTP port, which its routes are on; leave --allow-http=false out")
    if s.sagemaker_multi_model and not (s.allow_sagemaker and s.model_control_mode == "explicit"):
        raise ValueError("--sagemaker-multi-model needs --allow-sagemaker and --model-control-mode=explicit")
    if s.sagemaker_multi_model and s.load_on_demand:
        raise ValueError(
            "--sagemaker-multi-model excludes --load-on-demand: SageMaker decides which models are in memory"
        )
    if s.allow_vertex_ai:
        _refuse_wrong_paths(s.vertex_ai_predict_route, s.vertex_ai_health_route)


def _refuse_wrong_paths(predict: str, health: str) -> None:
    for flag, path in (("--vertex-ai-predict-route", predict), ("--vertex-ai-health-route", health)):
        if not _PATH.fullmatch(path):
            raise ValueError(f"{flag} expects the path of a URL, such as /predict, got {path!r}")
    if predict == health:
        raise ValueError("--vertex-ai-predict-route and --vertex-ai-health-route must not be the same")
