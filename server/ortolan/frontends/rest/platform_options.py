"""Which hosting platforms may ask, and what the operator chose for each."""

from dataclasses import dataclass
from typing import Literal

InferenceType = Literal["infer", "generate", "generate_stream"]


@dataclass(frozen=True, slots=True)
class SageMakerOptions:
    """``default_model`` is the one that /invocations asks; "" for the only one there is."""

    default_model: str = ""
    inference_type: InferenceType = "infer"
    pings_readiness: bool = True
    multi_model: bool = False


@dataclass(frozen=True, slots=True)
class VertexOptions:
    """The paths that the platform was told, and the model that the first one asks, as above."""

    predict_route: str
    health_route: str
    default_model: str = ""


@dataclass(frozen=True, slots=True)
class PlatformOptions:
    """None for a platform that the server is not on."""

    sagemaker: SageMakerOptions | None = None
    vertex: VertexOptions | None = None


NO_PLATFORM = PlatformOptions()
