"""A declared input or output, and checking a request's tensors against the declarations. Pure.

Shapes in messages include the batch dimension, because that is what clients see and send. The texts follow Triton's
(``infer_request.cc``) where clients match on them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ortolan.errors import InvalidArgument
from ortolan.inference.classification import check_classifiable
from ortolan.inference.datatypes import Datatype
from ortolan.inference.request import InferenceRequest, RequestedOutput, Tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One declared input or output of a model.

    ``dims`` leaves out the batch dimension of a batching model; -1 means any size. ``reshape``, where given, is the
    shape (again without batch) that the ONNX graph itself has, where clients see ``dims``.
    """

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    optional: bool = False
    reshape: tuple[int, ...] | None = None
    label_filename: str = ""
    ragged: bool = False
    """Whether requests of different shapes share a batch: the graph gets the elements of all, in one dimension."""

    def wire_shape(self, batching: bool) -> tuple[int, ...]:
        """The shape that clients see; a batching model's starts with -1."""
        return (-1, *self.dims) if batching else self.dims

    def graph_shape(self, batching: bool) -> tuple[int, ...]:
        """The shape that the ONNX graph has; of a ragged input, that of one request."""
        inner = self.dims if self.reshape is None else self.reshape
        return (-1, *inner) if batching else inner


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What one model takes and gives. ``max_batch_size`` 0 means that its tensors have no batch dimension."""

    model_name: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    splits_oversize: bool = False
    """Whether a request of more rows than a batch may have is split, instead of refused."""
    sequences: bool = False
    """Whether every request must belong to a sequence."""

    # What every request is checked against, looked up once; derived, so it takes no part in comparisons.
    _specs: Mapping[str, TensorSpec] = field(init=False, repr=False, compare=False)
    _required: frozenset[str] = field(init=False, repr=False, compare=False)
    _output_datatypes: Mapping[str, Datatype] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_specs", {spec.name: spec for spec in self.inputs})
        object.__setattr__(self, "_required", frozenset(spec.name for spec in self.inputs if not spec.optional))
        object.__setattr__(self, "_output_datatypes", {spec.name: spec.datatype for spec in self.outputs})

    @property
    def batching(self) -> bool:
        return self.max_batch_size > 0

    def check(self, request: InferenceRequest) -> int:
        """The rows that ``request`` adds to a batch (1 for a model without a batch dimension).

        Raises InvalidArgument when any of its tensors, or the outputs it asks for, do not fit this model.
        """
        names = {tensor.name for tensor in request.inputs}
        if len(names) != len(request.inputs) or not self._required <= names <= self._specs.keys():
            raise InvalidArgument(self._names_message(request.inputs, names))
        rows = -1
        for tensor in request.inputs:
            rows = self._check_tensor(tensor, self._specs[tensor.name], rows)
        if request.outputs:
            self._check_outputs(request.outputs)
        # Without a batch dimension, and without any of its inputs where all are optional, a request is one row.
        return max(rows, 1)

    def _names_message(self, tensors: Sequence[Tensor], names: set[str]) -> str:
        seen: set[str] = set()
        for tensor in tensors:
            if tensor.name not in self._specs:
                return (
                    f"unexpected inference input '{tensor.name}' for model '{self.model_name}'; "
                    f"its inputs are {_listed(self._specs)}"
                )
            if tensor.name in seen:
                return f"input '{tensor.name}' already exists in request for model '{self.model_name}'"
            seen.add(tensor.name)
        return (
            f"expected {len(self.inputs)} inputs but got {len(tensors)} inputs for model '{self.model_name}'. "
            f"Got input(s) {_listed(names)}, but missing required input(s) {_listed(self._required - names)}. "
            "Please provide all required input(s)."
        )

    def _check_tensor(self, tensor: Tensor, spec: TensorSpec, rows_before: int) -> int:
        if tensor.datatype is not spec.datatype:
            raise InvalidArgument(
                f"inference input '{tensor.name}' data-type is '{tensor.datatype.name}', "
                f"but model '{self.model_name}' expects '{spec.datatype.name}'"
            )
        dims = tensor.shape[1:] if self.batching else tensor.shape
        if (self.batching and not tensor.shape) or not _fits(dims, spec.dims):
            raise InvalidArgument(self._shape_message(tensor, spec))
        if not self.batching:
            return 1
        return self._check_rows(tensor, rows_before)

    def _check_rows(self, tensor: Tensor, rows_before: int) -> int:
        rows = tensor.shape[0]
        if rows > self.max_batch_size and not self.splits_oversize:
            raise InvalidArgument(
                f"inference request batch-size must be <= {self.max_batch_size} for '{self.model_name}', got {rows}. "
                "Send fewer rows, or raise max_batch_size in the model's config.pbtxt, or set the model parameter "
                "'oversize_requests' to 'split'."
            )
        if rows == 0:
            raise InvalidArgument(
                f"input '{tensor.name}' has no rows: the batch dimension must be between 1 and {self.max_batch_size} "
                f"for '{self.model_name}'"
            )
        if rows_before not in (-1, rows):
            raise InvalidArgument(
                f"input '{tensor.name}' batch size does not match other inputs for '{self.model_name}': "
                f"expected {rows_before}, got {rows}"
            )
        return rows

    def _shape_message(self, tensor: Tensor, spec: TensorSpec) -> str:
        expected = spec.wire_shape(self.batching)
        note = (
            " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
            "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
            "config, try setting max_batch_size to zero."
        )
        return (
            f"unexpected shape for input '{tensor.name}' for model '{self.model_name}'. "
            f"Expected {_shape_text(expected)}, got {_shape_text(tensor.shape)}.{note if self.batching else ''}"
        )

    def _check_outputs(self, wanted: Sequence[RequestedOutput]) -> None:
        seen: set[str] = set()
        for output in wanted:
            name = output.name
            if name not in self._output_datatypes:
                raise InvalidArgument(
                    f"unexpected inference output '{name}' for model '{self.model_name}'; "
                    f"its outputs are {_listed(self._output_datatypes)}"
                )
            if name in seen:
                raise InvalidArgument(f"output '{name}' already exists in request for model '{self.model_name}'")
            if output.class_count:
                check_classifiable(name, self._output_datatypes[name])
            seen.add(name)


def _fits(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    if shape == dims:
        return True
    return len(shape) == len(dims) and all(wanted in (-1, size) for size, wanted in zip(shape, dims, strict=True))


def _listed(names: Collection[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in sorted(names)) + "]"


def _shape_text(shape: Sequence[int]) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"
