"""A session as it looks to whoever tries a model out: what it takes and gives has rows, ragged or not."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ortolan.execution.batch import Inputs
from ortolan.execution.ragged_batch import RaggedForm
from ortolan.execution.session import Run
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import ModelConfig


class TrialSession(Protocol):
    """What warm-up and calibration need of a session."""

    def new_run(self) -> Run: ...

    def run(self, inputs: Inputs, output_names: Sequence[str], run: Run | None = None) -> list[Array]: ...


def trial_session(session: TrialSession, config: ModelConfig) -> TrialSession:
    """``session`` itself; where the batches of ``config`` are ragged, one that runs each row as its own request."""
    form = RaggedForm.of(config)
    return session if form is None else _RaggedSession(session, form)


class _RaggedSession:
    """Runs the rows of its inputs as the requests of one ragged batch."""

    def __init__(self, session: TrialSession, form: RaggedForm) -> None:
        self._session = session
        self._form = form

    def new_run(self) -> Run:
        return self._session.new_run()

    def run(self, inputs: Inputs, output_names: Sequence[str], run: Run | None = None) -> list[Array]:
        requests = self._requests(inputs)
        outputs = self._session.run(self._form.gathered(requests), output_names, run)
        parts = self._form.dealt(outputs, output_names, requests, [1] * len(requests))
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _requests(self, inputs: Inputs) -> list[Inputs]:
        if not self._form.batching:
            return [inputs]
        rows = len(next(iter(inputs.values()), ()))
        return [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(max(1, rows))]
