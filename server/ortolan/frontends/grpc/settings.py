"""``TraceSetting`` and ``LogSettings``: what is traced and what is logged, and changing either."""

from typing import Any

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.grpc.call import Call, Method
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.serialized import Raw


class SettingsService:
    """Both methods tell the settings as they are after the change that the request asks for, if it does."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    def methods(self) -> dict[str, Method]:
        return {"TraceSetting": self.trace_setting, "LogSettings": self.log_settings}

    async def trace_setting(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.TraceSettingRequest, data)
        if request.settings:
            call.check_change(request.model_name)
        else:
            call.check_model(request.model_name)
        change = {name: list(setting.value) for name, setting in request.settings.items()}
        settings = await self._core.whole.change_trace_settings(request.model_name, change)
        response = messages.TraceSettingResponse()
        for name, texts in settings.as_answer().items():
            response.settings[name].value.extend(texts)
        return bytes(response.SerializeToString())

    async def log_settings(self, data: Raw, call: Call) -> bytes:
        request = messages.parse(messages.LogSettingsRequest, data)
        if request.settings:
            call.check_change()
        else:
            call.check_model("")
        change = {name: _chosen(setting) for name, setting in request.settings.items()}
        settings = await self._core.whole.change_log_settings(change)
        response = messages.LogSettingsResponse()
        for name, value in settings.as_answer().items():
            setattr(response.settings[name], _field_for(value), value)
        return bytes(response.SerializeToString())


def _chosen(setting: Any) -> object:
    """The value that a client set; None where it set none."""
    field = setting.WhichOneof("parameter_choice")
    return getattr(setting, field) if field else None


def _field_for(value: bool | int | str) -> str:
    if isinstance(value, bool):
        return "bool_param"
    return "uint32_param" if isinstance(value, int) else "string_param"
