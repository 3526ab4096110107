"""The tensors of one request between the steps of an ensemble, each for as long as it is needed. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ortolan.core.ensemble_graph import StepRun
from ortolan.inference.request import Tensor


class StepTensors:
    """Those that there are, by their names in the ensemble."""

    def __init__(self, given: Iterable[Tensor], runs: Sequence[StepRun], wanted: Sequence[str]) -> None:
        """``given`` came with the request; ``runs`` are the steps that it needs, ``wanted`` what the answer needs."""
        self._tensors = {tensor.name: tensor for tensor in given}
        self._uses = Counter(wanted)
        for run in runs:
            self._uses.update(run.inputs.values())

    def __len__(self) -> int:
        return len(self._tensors)

    def taken_by(self, run: StepRun) -> tuple[Tensor, ...]:
        """The inputs of one step, as its model calls them. What the client left out, and may, is left out here."""
        return tuple(
            replace(self._tensors[ours], name=theirs) for theirs, ours in run.inputs.items() if ours in self._tensors
        )

    def put(self, run: StepRun, outputs: Iterable[Tensor]) -> None:
        """The step is over: here is what it gave. What only it took is let go of."""
        for ours in run.inputs.values():
            self._uses[ours] -= 1
            if not self._uses[ours]:
                self._tensors.pop(ours, None)
        for tensor in outputs:
            name = run.outputs[tensor.name]
            self._tensors[name] = replace(tensor, name=name)

    def named(self, names: Iterable[str]) -> tuple[Tensor, ...]:
        return tuple(self._tensors[name] for name in names)
