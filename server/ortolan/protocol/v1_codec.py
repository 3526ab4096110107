"""KServe's v1 bodies ⇄ requests and responses: rows or columns of plain values.

    {"instances": [[5.1, 3.5], [6.7, 3.1]]}         rows of a model with one input
    {"instances": [{"a": 1, "b": [2, 3]}, …]}       rows of a model with several
    {"inputs": [[5.1, 3.5], [6.7, 3.1]]}            columns: the tensor itself
    {"inputs": {"a": [1, 4], "b": [[2, 3], …]}}     the tensors, batch dimension and all
    {"predictions": …}                              the answer, in the form of the request

These are the forms of TensorFlow Serving's predict API, from which v1 comes. Where KServe differs, this is KServe: the
answer to columns is called ``predictions`` too, because its clients look for nothing else (TensorFlow Serving calls it
``outputs``), and a list of objects under ``inputs`` is rows. ``signature_name``, ``parameters`` and all other members
are ignored, as KServe's own servers ignore them.

The nesting of a value is its shape; a last dimension of 1 may be left out, so that a model of one number or one text a
row takes bare values. The instances of a batching model are stacked along the batch dimension; those of another along
its first dimension, where that may vary or is their number. A single instance that does not fit as a row may be the
whole tensor; its prediction then is the whole output. Answers keep all dimensions, those of 1 too.

Whatever the client sends, nothing but InvalidArgument is raised for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.request import InferenceRequest, InferenceResponse, Tensor
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.json_document import may_hold_booleans, parse_object
from ortolan.protocol.json_fields import described, shown, wrong_type
from ortolan.protocol.json_tensors import json_elements
from ortolan.protocol.json_text import json_text
from ortolan.protocol.v1_tensors import BASE64, fitted, is_base64, stacked_tensor, text_or_base64, whole_tensor

ROWS, COLUMNS = "instances", "inputs"


@dataclass(frozen=True, slots=True)
class Rows:
    """The request listed ``count`` instances, each a row of the tensors; the answer has as many predictions."""

    count: int


@dataclass(frozen=True, slots=True)
class OneInstance:
    """The request listed one instance, the tensors themselves; the only prediction is the outputs themselves."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The request gave the tensors; the answer gives the outputs."""


Layout = Rows | OneInstance | Columns
"""The form of a request, which is that of its answer."""


def decode_request(
    model_name: str, model_version: str, body: bytes, signature: ModelSignature
) -> tuple[InferenceRequest, Layout]:
    """The request in ``body`` for a model with ``signature``, and the form that its answer is to have.

    Raises InvalidArgument for whatever is not a request, naming the instance where one is to blame. That every input
    is there is for ``signature.check``.
    """
    if not body:
        raise InvalidArgument(f"the request has no JSON: expected an object with '{ROWS}', got an empty body")
    document = parse_object(body)
    if (ROWS in document) == (COLUMNS in document):
        raise InvalidArgument(
            f"the request must have either '{ROWS}' (a list of rows) or '{COLUMNS}' (whole tensors), got "
            + ("both" if ROWS in document else "neither")
        )
    reader = _Reader(signature, may_hold_booleans(body))
    key = ROWS if ROWS in document else COLUMNS
    given = document[key]
    layout: Layout
    if key == ROWS or reader.lists_objects(given):
        tensors, layout = reader.rows(given, key)
    else:
        tensors, layout = reader.tensors(given, f"'{COLUMNS}'"), Columns()
    return InferenceRequest(model_name, model_version, inputs=tensors), layout


def encode_response(response: InferenceResponse, layout: Layout) -> bytes:
    """The body for ``response``: values for a model with one output, else objects by the outputs' names.

    NaN and infinities are tokens, BYTES that are not UTF-8 ``{"b64": …}``. Raises InvalidArgument when there were
    several instances and an output has not one row for each.
    """
    values = {tensor.name: _values(tensor) for tensor in response.outputs}
    match layout:
        case Rows(count):
            predictions = _joined_rows({t.name: _rows(t, values[t.name], count) for t in response.outputs})
        case OneInstance():
            predictions = [_joined(values)]
        case Columns():
            predictions = _joined(values)
    return json_text({"predictions": predictions})


class _Reader:
    """Makes a model's inputs of the values in one request."""

    def __init__(self, signature: ModelSignature, may_hold_booleans: bool) -> None:
        self._signature = signature
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._may_hold_booleans = may_hold_booleans

    def lists_objects(self, given: object) -> bool:
        """Whether ``given`` is a list of objects by input name, as rows are."""
        return isinstance(given, list) and any(map(self._is_named, given))

    def tensors(self, given: object, where: str) -> tuple[Tensor, ...]:
        """The tensors that ``given`` is, or that it names."""
        return tuple(
            whole_tensor(value, spec, spec.wire_shape(self._signature.batching), where, self._may_hold_booleans)
            for spec, value in self._by_input(given, where)
        )

    def rows(self, given: object, key: str) -> tuple[tuple[Tensor, ...], Layout]:
        """The tensors whose rows are the instances in ``given``; or which the only instance is."""
        if not isinstance(given, list):
            raise wrong_type(f"'{key}' of the request", "an array with one value for each row", given)
        if not given:
            raise InvalidArgument(f"'{key}' of the request is empty: it must have at least one row")
        self._refuse_mixture(given, key)
        inputs = self._by_input(given[0], f"{key}[0]")
        if len(given) == 1 and not self._is_row(inputs) and self._is_whole(inputs):
            return self.tensors(given[0], f"{key}[0]"), OneInstance()
        named = self._is_named(given[0])
        columns = [(spec, [row[spec.name] for row in given] if named else given) for spec, _ in inputs]
        return tuple(self._stacked(spec, values, key) for spec, values in columns), Rows(len(given))

    def _is_named(self, value: object) -> bool:
        return isinstance(value, dict) and (BASE64 in self._specs or not is_base64(value))

    def _by_input(self, value: Any, where: str) -> list[tuple[TensorSpec, Any]]:
        """What ``value`` has for each input that it names, or itself for the only one that there is."""
        if self._is_named(value):
            return [(self._spec(name, where), given) for name, given in value.items()]
        specs = [spec for spec in self._signature.inputs if not spec.optional] or self._signature.inputs
        if len(specs) == 1:
            return [(specs[0], value)]
        raise InvalidArgument(
            f"{where} must be an object with a value for each input of model '{self._signature.model_name}' "
            f"({_listed(self._specs)}), got {described(value)}"
        )

    def _spec(self, name: str, where: str) -> TensorSpec:
        if name in self._specs:
            return self._specs[name]
        raise InvalidArgument(
            f"{where} names {shown(name)}, which is no input of model '{self._signature.model_name}'; its inputs are "
            f"{_listed(self._specs)}"
        )

    def _refuse_mixture(self, instances: Sequence[Any], key: str) -> None:
        first = instances[0]
        named = self._is_named(first)
        for index, instance in enumerate(instances):
            if self._is_named(instance) != named:
                raise InvalidArgument(
                    f"{key}[{index}] is {described(instance)}, {key}[0] is {described(first)}: either all instances "
                    "must be objects with a value for each input, or none"
                )
            if named and instance.keys() != first.keys():
                raise InvalidArgument(
                    f"{key}[{index}] has values for other inputs than {key}[0]: all must have the same"
                )

    def _is_row(self, inputs: Sequence[tuple[TensorSpec, Any]]) -> bool:
        rows = [(self._row_dims(spec, 1), value) for spec, value in inputs]
        return all(dims is not None and fitted(value, dims) is not None for dims, value in rows)

    def _is_whole(self, inputs: Sequence[tuple[TensorSpec, Any]]) -> bool:
        return not self._signature.batching and all(fitted(value, spec.dims) is not None for spec, value in inputs)

    def _row_dims(self, spec: TensorSpec, count: int) -> tuple[int, ...] | None:
        """What one of ``count`` instances has for an input; None where these cannot be its rows."""
        if self._signature.batching:
            return spec.dims
        return spec.dims[1:] if spec.dims[:1] in ((-1,), (count,)) else None

    def _stacked(self, spec: TensorSpec, values: list[Any], key: str) -> Tensor:
        dims = self._row_dims(spec, len(values))
        if dims is None:
            raise InvalidArgument(
                f"input '{spec.name}' of model '{self._signature.model_name}' has the shape {list(spec.dims)}, which "
                f"cannot be stacked from {len(values)} instance(s): send the whole tensor as '{COLUMNS}'"
            )
        return stacked_tensor(values, spec, dims, key, self._may_hold_booleans)


def _values(tensor: Tensor) -> Any:
    """The tensor as ``json_text`` takes it, nested like its shape."""
    if tensor.datatype is not datatypes.BYTES:
        elements: Any = json_elements(tensor)
        # What has no dimensions becomes a number.
        return elements.reshape(tensor.shape)[()]
    texts = np.empty(tensor.array.size, np.object_)
    texts[:] = [text_or_base64(element) for element in tensor.array.ravel().tolist()]
    return texts.reshape(tensor.shape).tolist()


def _rows(tensor: Tensor, values: Any, count: int) -> Sequence[Any]:
    if tensor.shape[:1] == (count,):
        return values  # type: ignore[no-any-return]
    if count == 1:
        return [values]
    raise InvalidArgument(
        f"output '{tensor.name}' has the shape {list(tensor.shape)}, which is not one row for each of the {count} "
        f"instances: send them as '{COLUMNS}', or one at a time"
    )


def _joined(values: Mapping[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values


def _joined_rows(rows: Mapping[str, Sequence[Any]]) -> Any:
    if len(rows) == 1:
        return _joined(rows)
    return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
