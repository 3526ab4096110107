"""Which platform the server is on."""

from typing import Literal

from pydantic import BaseModel, Field


class HostingSettings(BaseModel):
    """Which platform the server is on."""

    hosting: Literal["auto", "none", "azureml", "kserve", "knative", "sagemaker", "vertex"] = Field(
        "auto",
        description="The platform whose environment says what flags and ORTOLAN_* variables leave open: ports, "
        "addresses, where models are, how long stopping may take; auto: the one whose signs are there; none: none.",
    )
