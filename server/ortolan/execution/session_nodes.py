"""What the inputs and outputs of a session say of themselves, and what the model's file adds, as a graph's signature.

The runtime tells neither an open rank from a scalar nor the classes of maps: ``model_declarations`` reads them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.execution.model_declarations import NotWalkable, Shape, declared_shapes, map_classes
from ortolan.execution.output_forms import OutputForm, datatype_of, output_form
from ortolan.repository.graph_signature import GraphSignature, GraphTensor

_OPTIONAL_TENSOR = re.compile(r"optional\((?P<tensor>tensor\(\w+\))\)")


def read_nodes(session: Any, model: Path | bytes, model_name: str) -> tuple[GraphSignature, dict[str, OutputForm]]:
    """The signature of the graph, and how each of its outputs becomes a tensor.

    Raises InvalidArgument for an input or output that requests cannot carry.
    """
    given, put_out = session.get_inputs(), session.get_outputs()
    shapes = _shapes(model, [*given, *put_out])
    forms = {node.name: output_form(model_name, node.name, node.type, shapes[node.name]) for node in put_out}
    inputs = [_graph_input(model_name, node, shapes[node.name]) for node in given]
    defaults = session.get_overridable_initializers()
    inputs += [replace(_graph_input(model_name, node, _sizes(node)), optional=True) for node in defaults]
    labels = _labels(model) if any("map(" in node.type for node in put_out) else {}
    return GraphSignature(tuple(inputs), tuple(form.tensor for form in forms.values()), labels), forms


def _shapes(model: Path | bytes, nodes: Sequence[Any]) -> dict[str, Shape | None]:
    """The shape of each input or output, or of the tensors inside it, -1 where a size is open; None for any rank."""
    shapes: dict[str, Shape | None] = {node.name: _sizes(node) for node in nodes}
    if all(shapes.values()):
        return shapes
    try:
        declared = declared_shapes(model)
    except (NotWalkable, OSError):
        # Of a format that says no more than the runtime does.
        return shapes
    return {name: shape or declared.get(name, ()) for name, shape in shapes.items()}


def _sizes(node: Any) -> Shape:
    return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)


def _labels(model: Path | bytes) -> Mapping[str, tuple[str, ...]]:
    try:
        return map_classes(model)
    except (NotWalkable, OSError):
        return {}


def _graph_input(model_name: str, node: Any, shape: Shape | None) -> GraphTensor:
    if optional := _OPTIONAL_TENSOR.fullmatch(node.type):
        return GraphTensor(node.name, datatype_of(model_name, node.name, node.type, optional["tensor"]), shape, True)
    if node.type.startswith(("seq(", "map(", "optional(")):
        raise InvalidArgument(
            f"input '{node.name}' of model '{model_name}' has type {node.type}, which cannot be served: requests carry "
            "tensors. Export the model so that it takes tensors, and makes its sequences or maps of them itself."
        )
    return GraphTensor(node.name, datatype_of(model_name, node.name, node.type, node.type), shape)
