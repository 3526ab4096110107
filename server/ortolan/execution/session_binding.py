"""Whether the runs of a session are bound, and how: what its placement and its graph come to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.execution.binding_plan import Shape, plan_of
from ortolan.execution.bound_session import BoundSession
from ortolan.execution.captured_session import CapturedSession
from ortolan.execution.cuda_graphs import CUDA, TENSORRT, capturing, refuse_changing_shapes
from ortolan.execution.device_memory import DeviceMemory, cuda_memory
from ortolan.execution.devices import Placement
from ortolan.execution.output_forms import OutputForm
from ortolan.repository.graph_signature import GraphSignature

# Binding costs a run 60 us of the processor's time, and saves the copies through the driver's own page-locked memory:
# an estimate from what those are known to cost, since no GPU was there to measure it on.
LEAST_BYTES = 256 << 10

Bound = BoundSession | CapturedSession

NewDeviceValue = Callable[[Shape, int, str, int], Any]
"""An OrtValue of a shape and ONNX element type on a kind of device, of this number."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The memory that inputs and outputs are bound to, if any, and the provider that captures runs; "" for none."""

    memory: DeviceMemory | None
    captures: str
    least_bytes: int = 0
    """Runs that move less than this are not bound, unless they are captured."""


def binding_of(placement: Placement, providers: Sequence[str]) -> Binding:
    """For a session at ``placement`` of which ``providers`` came up: bound is what is on an NVIDIA GPU.

    On the CPU binding costs more than it saves (docs/gpu.md), and of other GPUs we know no copies.
    """
    first = placement.providers[0].name
    captures = capturing(placement.providers)
    return Binding(
        cuda_memory(placement.device_id) if first in (CUDA, TENSORRT) and first in providers else None,
        captures if captures in providers else "",
        LEAST_BYTES,
    )


def bound_to(
    binding: Binding,
    session: Any,
    model_name: str,
    graph: tuple[GraphSignature, Mapping[str, OutputForm]],
    new_value: NewDeviceValue,
) -> Bound | None:
    """How runs of ``session``, the runtime's own object, are bound; None where they are not.

    Raises InvalidArgument where the model is to have CUDA graphs and cannot.
    """
    memory, provider = binding.memory, binding.captures
    # Older runtimes do not tell where inputs are used.
    if memory is None or not hasattr(session, "get_input_memory_infos"):
        if provider:
            raise InvalidArgument(
                f"model '{model_name}' cannot have CUDA graphs: they need a GPU, NVIDIA's bindings for Python and an "
                "ONNX Runtime that tells where tensors are. Install ortolan[gpu], or leave out "
                "optimization.cuda.graphs, enable_cuda_graph and trt_cuda_graph_enable."
            )
        return None
    nodes = session.get_inputs(), session.get_outputs()
    infos = session.get_input_memory_infos(), session.get_output_memory_infos()
    here = [memory.holds(info) for info in infos[0]], [memory.holds(info) for info in infos[1]]
    plan = plan_of(nodes, *graph, here)
    if not provider:
        return BoundSession(session, model_name, plan, memory, binding.least_bytes)
    names = [[node.name for node in each] for each in nodes]
    refuse_changing_shapes(model_name, provider, plan, names[0], names[1])
    kind, number = memory.kind, memory.device_id
    return CapturedSession(
        session, model_name, plan, memory, lambda shape, element: new_value(shape, element, kind, number)
    )
