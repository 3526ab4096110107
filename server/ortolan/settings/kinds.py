"""Kinds of values that many settings have."""

from typing import Annotated

from pydantic import Field

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Milliseconds = Annotated[int, Field(ge=0, lt=2**31)]
Timeout = Annotated[float, Field(gt=0, le=86_400)]
