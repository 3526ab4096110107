"""One ONNX Runtime session; the only module that imports onnxruntime.

It mends what the Python binding gets wrong: ``bytes`` objects and numpy ``S`` arrays are silently turned into other
text, so BYTES elements go in as ``str`` and come out as ``bytes``; bfloat16 passes only as OrtValue; what is no tensor
becomes one (``output_forms``); an open rank is told from a scalar (``session_nodes``).
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ortolan.errors import Cancelled, Internal, InvalidArgument, OrtolanError, OutOfMemory
from ortolan.execution.binding_plan import Shape
from ortolan.execution.captured_session import CapturedSession, without_graph
from ortolan.execution.devices import Placement, Provider
from ortolan.execution.load_refusals import library_refused, model_refused
from ortolan.execution.ort_values import bits_of
from ortolan.execution.runtime_errors import missing_memory, readable
from ortolan.execution.session_binding import Binding, Bound, binding_of, bound_to
from ortolan.execution.session_nodes import read_nodes
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.text_elements import texts_of
from ortolan.inference.datatypes import BF16, BYTES, Array
from ortolan.repository.graph_signature import GraphTensor

RUNTIME_VERSION: str = ort.__version__
RUNTIME_BUILD: str = f"{ort.__version__} {ort.get_build_info()}"

_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_FATAL_ONLY = 4
_TERMINATED = "terminate flag being set"


def available_providers() -> tuple[str, ...]:
    """The providers of this build of ONNX Runtime, except those that would send tensors to another machine."""
    return tuple(name for name in ort.get_available_providers() if name != "AzureExecutionProvider")


def preload_gpu_libraries() -> None:
    """Let the GPU build find the CUDA libraries that came as Python packages beside it."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


class Run:
    """One run that another thread can end: between two nodes of the graph, or inside a loop."""

    __slots__ = ("options",)

    def __init__(self, options: Any) -> None:
        self.options = options

    def terminate(self) -> None:
        self.options.terminate = True


class Session:
    """A loaded model on the devices of one placement. ``run`` may be called from several threads at once."""

    def __init__(
        self,
        model: Path | bytes,
        model_name: str,
        settings: SessionSettings,
        placement: Placement,
        folder: Path,
        binding: Binding | None = None,
    ) -> None:
        """Load ``model``, a file or its content; ``folder`` is where the external data of a content lies.

        ``binding`` is how runs are bound, if not as the placement comes to.

        Raises ModelNotLoadable when ONNX Runtime refuses it, InvalidArgument when the providers do not come up.
        """
        self._model_name = model_name
        options = _session_options(model_name, settings, folder if isinstance(model, bytes) else None)
        self._session = _load(model, model_name, options, placement.providers, folder, settings.custom_op_libraries)
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        _check_providers(model_name, placement.providers, self.providers, settings.allow_fallback)
        self.signature, self._outputs = read_nodes(self._session, model, model_name)
        datatypes = {tensor.name: tensor.datatype for tensor in self.signature.inputs}
        self._text_inputs = frozenset(name for name, datatype in datatypes.items() if datatype is BYTES)
        self._bf16_inputs = frozenset(name for name, datatype in datatypes.items() if datatype is BF16)
        self._has_bf16 = bool(self._bf16_inputs) or any(form.datatype is BF16 for form in self._outputs.values())
        self._arenas = placement.arenas(settings.memory_arena)
        # The runtime fails every run that is to shrink an arena that the session does not have.
        shrunk = ";".join(arena for arena in settings.arena_shrinkage.split(";") if arena in self._arenas)
        self._settings = replace(settings, arena_shrinkage=shrunk)
        if self._has_bf16:
            self._check_bf16_is_by_itself()
        binding = binding_of(placement, self.providers) if binding is None else binding
        graph = self.signature, self._outputs
        self._bound = bound_to(binding, self._session, model_name, graph, _new_value)
        # Runs that are captured come one at a time; to a session without graphs this is nothing.
        self._turn = self._bound.turn if isinstance(self._bound, CapturedSession) else None
        # Nothing about such a run is left to be done, nor to be checked, around the runtime's own: the wrapper that is
        # in between takes as long as a small model (``tests/execution/test_runtime_contract.py``).
        self._is_plain = (
            self._bound is None
            and not self._text_inputs
            and not self._has_bf16
            and all(form.is_array for form in self._outputs.values())
        )
        self._input_names = {tensor.name for tensor in self.signature.inputs}
        self._runtime_run = self._session._sess.run
        self._run_options = self._new_options(self._settings)

    def _check_bf16_is_by_itself(self) -> None:
        """What has to run with OrtValues cannot have what does not exist as one: strings and what is no tensor."""
        texts = self._text_inputs or any(form.datatype is BYTES for form in self._outputs.values())
        if texts or not all(form.by_itself for form in self._outputs.values()):
            raise InvalidArgument(
                f"model '{self._model_name}' has bfloat16 tensors beside strings or sequences, or in optionals, which "
                "ONNX Runtime's Python binding cannot pass in one run; export it with float32 inputs and outputs"
            )

    def new_run(self) -> "Run":
        """The handle of one run to come, by which another thread can end it."""
        return Run(self._new_options(self._settings))

    def _new_options(self, settings: SessionSettings) -> Any:
        options = _run_options(settings)
        if self._bound is not None:
            self._bound.prepare(options)
        return options

    def run(self, inputs: Mapping[str, Array], output_names: Sequence[str], run: "Run | None" = None) -> list[Array]:
        """The outputs of ``output_names`` in their order; arrays as ``inference.Tensor`` has them.

        Raises InvalidArgument when the runtime blames the inputs, Cancelled when ``run`` was ended, Internal for any
        other failure of the model.
        """
        options = run.options if run is not None else self._run_options
        if self._is_plain and inputs.keys() == self._input_names:
            try:
                return self._runtime_run(output_names, inputs, options)  # type: ignore[no-any-return]
            except Exception as error:
                raise self._translated(error) from error
        if self._bound is not None and self._bound.binds(inputs, output_names):
            # A run that may be captured says which graph it is, so that it shares its options with no other.
            own = options if run is not None or self._turn is None else self._new_options(self._settings)
            values = self._run_bound(self._bound, inputs, output_names, own)
        else:
            values = self._run_plainly(inputs, output_names, options)
        return [self._tensor_array(name, value) for name, value in zip(output_names, values, strict=True)]

    def _run_bound(
        self, bound: Bound, inputs: Mapping[str, Array], output_names: Sequence[str], options: Any
    ) -> Sequence[Any]:
        """A run that fails is done again plainly, which says in the runtime's own words what is wrong, or answers."""
        try:
            return bound.run(inputs, output_names, options)
        except Exception as error:
            if _TERMINATED in str(error):
                raise self._translated(error) from error
            values = self._run_plainly(inputs, output_names, options)
            bound.give_up(error)
            return values

    def _run_plainly(self, inputs: Mapping[str, Array], output_names: Sequence[str], options: Any) -> Sequence[Any]:
        feeds = dict(inputs)
        for name in self._text_inputs & feeds.keys():
            feeds[name] = texts_of(feeds[name])
        if self._turn is not None:
            without_graph(options)
        try:
            with self._turn or nullcontext():
                if self._has_bf16:
                    return self._run_with_bf16(feeds, output_names, options)
                values: Sequence[Any] = self._session.run(output_names, feeds, options)
                return values
        except Exception as error:
            raise self._translated(error) from error

    def shrink_arena(self) -> None:
        """Give back the memory that is kept for runs to come: by a run that is ended before the graph's first node.

        The runtime looks at the arena after each run that may do so, also after one that failed. Runs that go on beside
        are not disturbed.
        """
        if self._bound is not None:
            self._bound.give_back()
        inputs = {tensor.name: _blank(tensor) for tensor in self.signature.inputs if not tensor.optional}
        for arena in self._arenas:
            if self._turn is not None and arena.startswith("gpu:"):
                # A graph uses memory that its arena counts as free.
                continue
            run = Run(self._new_options(replace(self._settings, arena_shrinkage=arena)))
            run.terminate()
            with suppress(OrtolanError):
                self._run_plainly(inputs, [tensor.name for tensor in self.signature.outputs], run.options)

    def _tensor_array(self, name: str, value: Any) -> Array:
        try:
            return self._outputs[name].array(value)
        except (ValueError, KeyError) as error:
            raise Internal(
                f"output '{name}' of model '{self._model_name}' is a sequence whose elements differ in shape or in "
                "keys, so that it is no tensor; pad them to one shape inside the model"
            ) from error

    def _run_with_bf16(self, feeds: Mapping[str, Array], output_names: Sequence[str], options: Any) -> list[Any]:
        """Run through OrtValue, the only way in which bfloat16 passes."""
        values = {name: self._ort_value(name, array) for name, array in feeds.items()}
        results = self._session.run_with_ort_values(output_names, values, options)
        return [
            bits_of(value) if self._outputs[name].datatype is BF16 else value.numpy()
            for name, value in zip(output_names, results, strict=True)
        ]

    def _ort_value(self, name: str, array: Array) -> Any:
        if name in self._bf16_inputs:
            bits = np.asarray(array, order="C")
            return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, BF16.onnx_element_type)
        return ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))

    def _translated(self, error: Exception) -> OrtolanError:
        if isinstance(error, UnicodeDecodeError):
            return Internal(
                f"model '{self._model_name}' produced a string that is not UTF-8, which ONNX Runtime's Python "
                "binding cannot pass on"
            )
        if _TERMINATED in str(error):
            return Cancelled(f"the run of model '{self._model_name}' was ended, because no one waited for it any more")
        if (missing := missing_memory(error)) is not None:
            return OutOfMemory(
                f"model '{self._model_name}' has no {missing} left to run this request: send a smaller one, or send it "
                "to another server or again later"
            )
        text = f"model '{self._model_name}' could not run this request: onnx runtime error: {readable(error)}"
        blames_input = type(error).__name__ == "InvalidArgument" or isinstance(error, ValueError)
        return InvalidArgument(text) if blames_input else Internal(text)


def _new_value(shape: Shape, element_type: int, kind: str, device_id: int) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, element_type, kind, device_id)


def _session_options(model_name: str, settings: SessionSettings, external_data: Path | None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = settings.inter_op_threads
    options.execution_mode = (
        ort.ExecutionMode.ORT_PARALLEL if settings.parallel_execution else ort.ExecutionMode.ORT_SEQUENTIAL
    )
    options.graph_optimization_level = _GRAPH_LEVELS.get(settings.graph_level, _GRAPH_LEVELS[0])
    options.enable_cpu_mem_arena = settings.memory_arena
    options.enable_mem_pattern = settings.memory_pattern
    if settings.optimised_model_file:
        options.optimized_model_filepath = settings.optimised_model_file
    # The runtime would print one line for each failed request; the error reaches the client and our log instead.
    options.log_severity_level = _FATAL_ONLY
    for key, value in settings.config_entries.items():
        options.add_session_config_entry(key, value)
    if external_data is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(external_data))
    for library in settings.custom_op_libraries:
        _register(options, model_name, library)
    return options


def _register(options: Any, model_name: str, library: str) -> None:
    try:
        options.register_custom_ops_library(library)
    except Exception as error:
        raise library_refused(error, library, model_name) from error


def _run_options(settings: SessionSettings) -> Any:
    options = ort.RunOptions()
    options.log_severity_level = _FATAL_ONLY
    if settings.arena_shrinkage:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", settings.arena_shrinkage)
    return options


def _load(
    model: Path | bytes,
    model_name: str,
    options: Any,
    providers: Sequence[Provider],
    folder: Path,
    libraries: Sequence[str],
) -> Any:
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(
            source,
            options,
            providers=[provider.name for provider in providers],
            provider_options=[dict(provider.options) for provider in providers],
            enable_fallback=0,
        )
    except Exception as error:
        if (missing := missing_memory(error)) is not None:
            raise OutOfMemory(
                f"model '{model_name}' has no {missing} left to be loaded: unload others, or raise --memory-limit"
            ) from error
        raise model_refused(error, model, model_name, folder, libraries) from error


def _check_providers(model_name: str, asked: Sequence[Provider], got: Sequence[str], allow_fallback: bool) -> None:
    """ONNX Runtime falls back to the CPU in silence, so what came up is compared with what was asked for."""
    missing = [provider.name for provider in asked if provider.name not in got]
    if missing and not allow_fallback:
        raise InvalidArgument(
            f"model '{model_name}' asks for {', '.join(missing)}, but ONNX Runtime could only use {', '.join(got)}. "
            "Mend the provider's libraries or device, or set the model parameter 'fallback' to 'allow'."
        )


def _blank(tensor: GraphTensor) -> Array:
    """The smallest array that the input takes."""
    shape = [1 if size < 0 else size for size in tensor.shape or ()]
    return np.full(shape, b"", object) if tensor.datatype is BYTES else np.zeros(shape, tensor.datatype.numpy)
