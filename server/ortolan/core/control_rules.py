"""Whether clients may load and unload models, and which names they may say. Pure."""

from typing import Literal

from ortolan.errors import InvalidArgument, Unavailable

ControlMode = Literal["none", "poll", "explicit"]

_LONGEST_NAME_BYTES = 255
# Triton's words, which it says in both of these modes; its clients look for them, as far as "not allowed".
_NOT_ALLOWED = "explicit model load / unload is not allowed"
_WHY: dict[ControlMode, str] = {
    "poll": "if polling is enabled",
    "none": "where models are only loaded at the start",
}


def require_control(mode: ControlMode) -> None:
    """Raises Unavailable in modes in which clients may not load and unload models."""
    if mode != "explicit":
        raise Unavailable(
            f"{_NOT_ALLOWED} {_WHY[mode]}; start the server with --model-control-mode=explicit to allow it"
        )


def check_model_name(name: str) -> None:
    """Raises InvalidArgument for what can be no model's name."""
    if not name.strip():
        raise InvalidArgument("the model's name must not be empty")
    if "/" in name or "\\" in name or name.strip() in (".", "..") or not name.isprintable():
        raise InvalidArgument(
            "the model's name must be one directory's name in the model repository, without '/', '..' or control "
            "characters"
        )
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        raise InvalidArgument(f"the model's name must have at most {_LONGEST_NAME_BYTES} bytes")
