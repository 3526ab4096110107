"""What is said when ONNX Runtime does not take a model, or its library of operators: what is wrong, and what to do."""

import re
from collections.abc import Sequence
from pathlib import Path

from ortolan.errors import Incomplete, InvalidArgument
from ortolan.execution.runtime_errors import readable
from ortolan.repository.foreign_files import beginning_of, kind_of

_SIGNS_OF_DAMAGE = ("Protobuf parsing failed", "No graph was found")
_CUT_SHORT = "out of bounds or can not be read in full"  # of external data
_DAMAGED = " The file is damaged, truncated or no ONNX model: copy or export it again."
_UNKNOWN_OPERATOR = re.compile(r"is not a registered function/op|No Op registered for ")
_NO_GRAPH_CAPTURE = "cannot use the graph capture feature"
_LIBRARY_MISSING = re.compile(r"with error: (?P<file>.+?): cannot open shared object file: No such file")
_WHERE_LIBRARIES_ARE = (
    "a name with a slash counts from the directory that the server was started in, one without is looked for where the "
    "system keeps its libraries (LD_LIBRARY_PATH)"
)


class ModelNotLoadable(InvalidArgument):
    """ONNX Runtime refuses the model; ``runtime_text`` is what it said."""

    def __init__(self, message: str, runtime_text: str) -> None:
        super().__init__(message)
        self.runtime_text = runtime_text


class ModelDamaged(ModelNotLoadable, Incomplete):
    """What ONNX Runtime read of the model or of its external data breaks off, or makes no sense."""


def model_refused(
    error: Exception, model: Path | bytes, model_name: str, folder: Path, libraries: Sequence[str]
) -> ModelNotLoadable:
    """The error for a model that ONNX Runtime refuses; ``folder`` has its external data."""
    # The runtime follows symbolic links before it says where it looked.
    text = readable(error, [str(folder), str(folder.resolve())])
    damaged = any(sign in text for sign in _SIGNS_OF_DAMAGE)
    kind = _kind(model) if damaged else ""
    what = f"its file is {kind}" if kind else text + (_DAMAGED if damaged else _advice(text, libraries))
    refusal = ModelDamaged if damaged or _CUT_SHORT in text else ModelNotLoadable
    return refusal(f"ONNX Runtime cannot load model '{model_name}': {what}", text)


def library_refused(error: Exception, library: str, model_name: str) -> InvalidArgument:
    """The error for a library of operators that ONNX Runtime refuses."""
    where = f"model '{model_name}': its library of operators '{_shown(library)}'"
    missing = _LIBRARY_MISSING.search(str(error))
    if missing is not None and missing["file"] == library:
        place = "put it there" if Path(library).is_absolute() else _WHERE_LIBRARIES_ARE
        return InvalidArgument(f"{where} is not there, where model_operations in config.pbtxt says that it is: {place}")
    return InvalidArgument(f"{where} cannot be loaded: {readable(error, [library])}")


def _kind(model: Path | bytes) -> str:
    try:
        return kind_of(beginning_of(model))
    except OSError:
        return ""


def _advice(text: str, libraries: Sequence[str]) -> str:
    if _NO_GRAPH_CAPTURE in text:
        return (
            ". This is what the model's CUDA graphs need: leave out optimization.cuda.graphs, enable_cuda_graph and "
            "trt_cuda_graph_enable, or export the model without what is named here"
        )
    if _UNKNOWN_OPERATOR.search(text) is None:
        return ""
    if libraries:
        return f". It is not in {', '.join(repr(_shown(each)) for each in libraries)} either, which the model names."
    return (
        ". If it is an operator of your own, name its library in config.pbtxt: "
        'model_operations { op_library_filename: "PATH" }'
    )


def _shown(library: str) -> str:
    """The library as a configuration names it, but no absolute path."""
    return Path(library).name if Path(library).is_absolute() else library
