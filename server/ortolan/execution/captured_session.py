"""Runs of a session that are captured as CUDA graphs, and replayed with one call instead of one for each kernel.

A graph reads and writes the addresses that it was captured with. So each combination of input shapes has buffers that
stay where they are, an IO binding that is never changed, and a number by which the runtime knows its graph. All outputs
are bound, whoever wants them, because a graph has them all.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ortolan.execution.binding_plan import BindingPlan, GraphNumbers, Shape
from ortolan.execution.bound_session import GRAPH_NUMBER, NO_GRAPH, BoundSession, Lane, room_for
from ortolan.execution.device_memory import DeviceMemory
from ortolan.execution.runtime_errors import readable
from ortolan.inference.datatypes import Array

_log = logging.getLogger(__name__)

# Each holds the memory of a run.
MOST_GRAPHS = 32

NewValue = Callable[[Shape, int], Any]
"""An OrtValue of this shape and ONNX element type in the device's memory."""


def without_graph(options: Any) -> None:
    """Have a run with these RunOptions neither captured nor replayed."""
    # The runtime warns of an entry that is there already, and raises where it is not.
    with contextlib.suppress(RuntimeError):
        if options.get_run_config_entry(GRAPH_NUMBER) == NO_GRAPH:
            return
    options.add_run_config_entry(GRAPH_NUMBER, NO_GRAPH)


class _Captured:
    """One combination of input shapes."""

    def __init__(self, number: int, session: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self.number = number
        self.inputs = inputs
        self.outputs = outputs
        self.binding = session.io_binding()
        for name, value in inputs.items():
            self.binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            self.binding.bind_ortvalue_output(name, value)


class CapturedSession:
    """See BoundSession, whose methods it has. One run at a time, as the runtime asks of sessions that capture.

    A run that is not captured may not go on beside one that is: it would be given the memory that the graph uses.
    """

    def __init__(
        self,
        session: Any,
        model_name: str,
        plan: BindingPlan,
        memory: DeviceMemory,
        new_value: NewValue,
        most_graphs: int = MOST_GRAPHS,
    ) -> None:
        self._session = session
        self._model_name = model_name
        self._plan = plan
        self._memory = memory
        self._new_value = new_value
        self._numbers = GraphNumbers(most_graphs)
        self._captured: dict[int, _Captured] = {}
        self._lane = Lane(session, memory)
        self._eager = BoundSession(session, model_name, plan, memory)
        self._capturing = True
        self.turn = threading.Lock()
        """Held through every run of the session, also by its plain runs."""

    @property
    def graphs(self) -> int:
        """How many combinations of shapes have a graph."""
        return len(self._captured)

    def binds(self, feeds: Mapping[str, Array], output_names: Sequence[str]) -> bool:
        """See BoundSession."""
        return self._eager.binds(feeds, output_names)

    def prepare(self, options: Any) -> None:
        """See BoundSession; each run says by itself which graph it is."""

    def run(self, feeds: Mapping[str, Array], output_names: Sequence[str], options: Any) -> list[Array]:
        """See BoundSession."""
        with self.turn:
            captured = self._captured_for(feeds) if self._capturing else None
            if captured is None:
                options.add_run_config_entry(GRAPH_NUMBER, NO_GRAPH)
                return self._eager.run(feeds, output_names, options)
            options.add_run_config_entry(GRAPH_NUMBER, str(captured.number))
            return self._replayed(captured, feeds, output_names, options)

    def give_up(self, error: Exception) -> None:
        """See BoundSession; first of all nothing is captured any more."""
        if not self._capturing:
            self._eager.give_up(error)
            return
        self._capturing = False
        _log.warning(
            "model '%s': no CUDA graphs any more, because a run failed only with one: %s",
            *(self._model_name, readable(error)),
        )

    def give_back(self) -> None:
        """See BoundSession; what graphs use stays."""
        self._eager.give_back()

    def _captured_for(self, feeds: Mapping[str, Array]) -> _Captured | None:
        shapes = {name: feeds[name].shape for name in self._plan.inputs}
        number = self._numbers.of(tuple(shapes.values()))
        if number is None:
            return None
        if number not in self._captured:
            self._captured[number] = self._new_captured(number, shapes)
        return self._captured[number]

    def _new_captured(self, number: int, shapes: Mapping[str, Shape]) -> _Captured:
        told = self._plan.output_shapes(shapes, self._plan.outputs)
        inputs = {name: self._value(shape, self._plan.inputs[name].datatype) for name, shape in shapes.items()}
        outputs = {
            # Sessions with outputs of which this is not known are refused when they are loaded.
            name: self._value(shape or (), self._plan.outputs[name].datatype)
            for name, shape in told.items()
        }
        return _Captured(number, self._session, inputs, outputs)

    def _value(self, shape: Shape, datatype: Any) -> Any:
        return self._new_value(shape, datatype.onnx_element_type)

    def _replayed(
        self, captured: _Captured, feeds: Mapping[str, Array], names: Sequence[str], options: Any
    ) -> list[Array]:
        self._lane.send((value.data_ptr(), feeds[name]) for name, value in captured.inputs.items())
        self._session.run_with_iobinding(captured.binding, options)
        captured.binding.synchronize_outputs()
        rooms = {
            name: room_for(tuple(captured.outputs[name].shape()), self._plan.outputs[name].datatype, self._memory)
            for name in names
        }
        self._lane.fetch((room, captured.outputs[name].data_ptr()) for name, room in rooms.items())
        return [rooms[name] for name in names]
