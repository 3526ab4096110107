"""When runs of a session are captured as CUDA graphs: who asked for it, and why it cannot be. Pure.

A captured graph reads and writes the addresses that it was captured with, whatever is bound later. So it is only done
with buffers that stay where they are, one set of them for each combination of input shapes.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from ortolan.errors import InvalidArgument
from ortolan.execution.binding_plan import BindingPlan, open_beyond_the_first, unbound
from ortolan.execution.devices import Placement, Provider
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import ModelConfig

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
# By provider: the option that has it capture its runs, and the words in which it takes yes.
_SWITCHES = {CUDA: ("enable_cuda_graph", "1"), TENSORRT: ("trt_cuda_graph_enable", "True")}
_ADVICE = "Leave out optimization.cuda.graphs, enable_cuda_graph and trt_cuda_graph_enable, or {}."


def with_graphs(config: ModelConfig, settings: SessionSettings, places: Sequence[Placement]) -> tuple[Placement, ...]:
    """``places`` with the option set that Triton's ``optimization.cuda.graphs`` asks for; a provider's own word wins.

    Raises InvalidArgument for graphs beside the arena shrinkage that would take their memory away.
    """
    asked = config.optimization.cuda_graphs or settings.provider_options.get("enable_cuda_graph") == "1"
    found = tuple(replace(place, providers=_switched(place.providers)) if asked else place for place in places)
    if any(capturing(place.providers) for place in found) and "gpu:" in settings.arena_shrinkage:
        raise InvalidArgument(
            f"model '{config.name}' asks for CUDA graphs, and by memory.enable_memory_arena_shrinkage that the memory "
            "which they use be given back after each run. " + _ADVICE.format("shrink cpu:0 only")
        )
    return found


def _switched(providers: Sequence[Provider]) -> tuple[Provider, ...]:
    """The first provider captures: those behind it only take what it leaves, and only one can."""
    first, *others = providers
    if first.name not in _SWITCHES:
        return tuple(providers)
    option, yes = _SWITCHES[first.name]
    others = [replace(each, options=_without_switch(each)) for each in others]
    return (replace(first, options={option: yes, **first.options}), *others)


def _without_switch(provider: Provider) -> dict[str, str]:
    option, _ = _SWITCHES.get(provider.name, ("", ""))
    return {key: value for key, value in provider.options.items() if key != option}


def capturing(providers: Sequence[Provider]) -> str:
    """The name of the provider that captures its runs; "" if none does."""
    for provider in providers:
        option, yes = _SWITCHES.get(provider.name, ("", ""))
        if option and provider.options.get(option) == yes:
            return provider.name
    return ""


def refuse_changing_shapes(
    model_name: str, provider: str, plan: BindingPlan, inputs: Collection[str], outputs: Collection[str]
) -> None:
    """Raises InvalidArgument where the runs of a model cannot be captured by ``provider``, by what it declares.

    Of control flow and of nodes that are left to the CPU the runtime tells while it loads the model.
    """
    reason = _reason(provider, plan, inputs, outputs)
    if reason:
        raise InvalidArgument(f"model '{model_name}' cannot have CUDA graphs: {reason}")


def _reason(provider: str, plan: BindingPlan, inputs: Collection[str], outputs: Collection[str]) -> str:
    if missing := unbound(plan, inputs, outputs):
        return f"{missing[0]} is no tensor of numbers. " + _ADVICE.format("export the model without it")
    for tensor in plan.inputs.values():
        if open_beyond_the_first(tensor.dims):
            fixed = "export the model with fixed ones"
            return f"input '{tensor.name}' has open sizes beside the first. " + _ADVICE.format(fixed)
        if provider == TENSORRT and tensor.dims and not isinstance(tensor.dims[0], int):
            return f"input '{tensor.name}' has an open size, and TensorRT captures one shape. " + _ADVICE.format(
                "run the model on CUDA"
            )
    for tensor in [*plan.inputs.values(), *plan.outputs.values()]:
        if not tensor.on_device:
            return f"'{tensor.name}' is used on the CPU. " + _ADVICE.format("export the model without that")
    ones = {tensor.name: tuple(size if isinstance(size, int) else 1 for size in tensor.dims or ()) for tensor in
            plan.inputs.values()}  # fmt: skip
    for name, shape in plan.output_shapes(ones, plan.outputs).items():
        if shape is None:
            named = "name its first size as that of an input"
            return f"the size of output '{name}' is not told by those of the inputs. " + _ADVICE.format(named)
    return ""
