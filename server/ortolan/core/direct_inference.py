"""Asking for answers without a coroutine, where the form of a request is known (see ``direct_form``)."""

from collections.abc import Mapping

from ortolan.core.direct_form import DirectForm
from ortolan.core.model_manager import ModelManager
from ortolan.core.model_version import ModelVersion
from ortolan.core.tracing import Tracing
from ortolan.errors import OrtolanError
from ortolan.execution.direct_request import Asker, DirectRequest
from ortolan.inference.datatypes import Array
from ortolan.inference.request import InferenceRequest


class DirectInference:
    """The core's part of it. Lives on the event loop."""

    def __init__(self, manager: ModelManager, tracing: Tracing) -> None:
        self._manager = manager
        self._tracing = tracing

    def form(self, request: InferenceRequest) -> DirectForm | None:
        """What further requests come to that differ from ``request``, which was answered, in their elements only.

        None where that cannot be said. Raises as ``ModelManager.find`` does.
        """
        version = self._manager.find(request.model_name, request.model_version)
        return version.direct_form(request) if isinstance(version, ModelVersion) else None

    def begin(
        self, form: DirectForm, inputs: Mapping[str, Array], asker: Asker, deadline_ns: int = 0
    ) -> DirectRequest | None:
        """Ask for the answer to a request of this form, which no caller traces. None where it has to be asked for as
        others are.
        """
        if self._tracing.on and not self._tracing.passes_over(form.asked_name):
            return None
        try:
            version = self._manager.find(form.asked_name, form.asked_version)
        except OrtolanError:
            return None
        return form.begin(version, inputs, deadline_ns, asker)
