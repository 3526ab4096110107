"""The routes by which hosting platforms ask, beside the protocol's own."""

from typing import Literal

from pydantic import BaseModel, Field


class HostingRouteSettings(BaseModel):
    """The routes by which hosting platforms ask, beside the protocol's own. Each is on the HTTP port."""

    allow_sagemaker: bool = Field(
        False, description="Answer as a SageMaker container: POST /invocations, or /models with many models."
    )
    sagemaker_default_model: str = Field(
        "",
        description="The model that /invocations asks; the only one if not given. An ensemble's models do not count.",
    )
    sagemaker_inference_type: Literal["infer", "generate", "generate_stream"] = Field(
        "infer", description="What /invocations is: an inference, or Triton's generate with flat JSON."
    )
    sagemaker_ping_mode: Literal["ready", "live"] = Field(
        "ready", description="What GET /ping asks: whether the server is ready, or only whether it is there."
    )
    sagemaker_multi_model: bool = Field(
        False, description="Have SageMaker load and unload models by POST /models and DELETE /models/NAME."
    )
    sagemaker_models_directory: str = Field(
        "/opt/ml/models", description="The directory that has all models which SageMaker may load so."
    )
    allow_vertex_ai: bool = Field(False, description="Answer as a Vertex AI container, by the next two routes.")
    vertex_ai_predict_route: str = Field("/predict", description="The path of Vertex AI's predictions.")
    vertex_ai_health_route: str = Field(
        "/health", description="The path of Vertex AI's health checks: 200 if the server is ready."
    )
    vertex_ai_default_model: str = Field(
        "", description="The model that the predict route asks; as --sagemaker-default-model."
    )
