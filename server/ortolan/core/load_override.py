"""What a client may send with a load or an unload: its parameters → what is to be done. Pure.

The names and meanings are those of the model repository extension: ``config`` is the JSON text of a model
configuration, which replaces the file's as a whole; ``file:<path>`` is one file of a model directory that replaces the
repository's; ``unload_dependents`` asks to unload what only an ensemble needs. ``force`` is ours: it has a model loaded
anew that did not change.
"""

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field

from ortolan.errors import InvalidArgument
from ortolan.inference.printable import printable
from ortolan.repository.file_names import stays_inside
from ortolan.repository.model_config import ModelConfig, WarmupData

CONFIG = "config"
FILE_PREFIX = "file:"
FORCE = "force"
UNLOAD_DEPENDENTS = "unload_dependents"

_LARGEST_CONFIG_CHARACTERS = 4 * 1024 * 1024
# What file systems take: 255 bytes for each part, and 4096 for a path, of which the directory above needs some.
_LONGEST_PART_BYTES = 255
_LONGEST_PATH_BYTES = 1024
_SHOWN = 80
_MOST_FILES = 1000
_MOST_DEPTH = 16
# What a client may set of an accelerator: threads, precision, limits of memory. Other options let the server load or
# write files of its machine, or may do so in the next ONNX Runtime.
_OPTIONS_FOR_CLIENTS = frozenset(
    {
        "precision_mode",
        "max_workspace_size_bytes",
        "trt_max_workspace_size",
        "trt_fp16_enable",
        "trt_bf16_enable",
        "gpu_mem_limit",
        "arena_extend_strategy",
        "cudnn_conv_use_max_workspace",
        "use_tf32",
        "precision",
        "num_of_threads",
        "num_streams",
        "migraphx_fp16_enable",
        "migraphx_bf16_enable",
    }
)


@dataclass(frozen=True, slots=True)
class LoadOverride:
    """What a model is loaded from, in place of what is on disk, until its next load or unload."""

    config: str
    """JSON text, not parsed yet."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Contents by their paths in the model's directory; none to use the repository's."""

    @property
    def size_bytes(self) -> int:
        """What the files take in memory."""
        return sum(map(len, self.files.values()))


def load_override(parameters: Mapping[str, object]) -> LoadOverride | None:
    """What the ``parameters`` of a load ask for; None without any. Raises InvalidArgument naming the parameter."""
    if not parameters.keys() - {FORCE}:
        return None
    config = ""
    files: dict[str, bytes] = {}
    _refuse_many(sum(name.startswith(FILE_PREFIX) for name in parameters))
    for name, value in parameters.items():
        if name == CONFIG:
            config = _config(value)
        elif name.startswith(FILE_PREFIX):
            files[_path(name)] = _content(name, value)
        elif name != FORCE:
            raise _unknown("load", name, f"'{CONFIG}', '{FILE_PREFIX}<path>' and '{FORCE}'")
    if not config:
        raise InvalidArgument(
            f"load parameter '{CONFIG}' is required when files are given: send the model configuration as JSON text, "
            "{} to have it completed from the model"
        )
    _refuse_files_as_directories(files)
    return LoadOverride(config, files)


def is_forced(parameters: Mapping[str, object]) -> bool:
    """Whether a load is to load anew what did not change. Raises InvalidArgument for what is no boolean."""
    value = parameters.get(FORCE, False)
    if not isinstance(value, bool):
        raise InvalidArgument(f"load parameter '{FORCE}' expects true or false, got {_kind(value)}")
    return value


def refuse_server_files(config: ModelConfig, own: ModelConfig | None) -> None:
    """Raises InvalidArgument when ``config``, which a client sent, has the server load or write files of its machine.

    ``own`` is the configuration on disk, whose author may do that and be repeated.
    """
    _refuse_more(set(_libraries(config)), set(_libraries(own)) if own else set())
    allowed = set(_closed_options(own)) if own else set()
    for accelerator, option, _ in sorted(set(_closed_options(config)) - allowed):
        raise InvalidArgument(
            f"load parameter '{CONFIG}': option '{printable(option, _SHOWN)}' of accelerator "
            f"'{printable(accelerator, _SHOWN)}' may only be set by the model's own config.pbtxt; put it there. "
            f"Clients may send {', '.join(sorted(_OPTIONS_FOR_CLIENTS))}"
        )


def refuse_other_files(config: ModelConfig, own: ModelConfig | None) -> None:
    """Raises InvalidArgument when ``config``, sent without files, reads others than the model's own configuration.

    What stands beside a model is none of the client's business, and beside a loose one are other models' files.
    """
    _refuse_more(set(_data_files(config)), set(_data_files(own)) if own else set())


def _refuse_more(named: Set[tuple[str, str]], allowed: Set[tuple[str, str]]) -> None:
    """``named`` and ``allowed`` are settings and the files that they name."""
    for setting, value in sorted(named - allowed):
        raise InvalidArgument(
            f"load parameter '{CONFIG}': {setting} '{printable(value, _SHOWN)}' names a file of the server, which only "
            "the model's own config.pbtxt may do; put it there"
        )


def _libraries(config: ModelConfig) -> Iterator[tuple[str, str]]:
    return (("model_operations.op_library_filename", name) for name in config.op_library_filenames)


def _closed_options(config: ModelConfig) -> Iterator[tuple[str, str, str]]:
    """The accelerators' options that clients may not choose: accelerator, option, value."""
    optimization = config.optimization
    for accelerator in (*optimization.gpu_accelerators, *optimization.cpu_accelerators):
        for option, value in accelerator.parameters.items():
            if option not in _OPTIONS_FOR_CLIENTS:
                yield accelerator.name, option, value


def _data_files(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """The label files, the files of warm-up data and those of initial states."""
    for output in config.outputs:
        if output.label_filename:
            yield f"label_filename of output '{printable(output.name, _SHOWN)}'", output.label_filename
    for sample in config.warmup:
        for given in sample.inputs:
            if given.data is WarmupData.FILE:
                yield "model_warmup.inputs.input_data_file", given.file
    for name in config.sequence_batching.files if config.sequence_batching else ():
        yield "sequence_batching.state.initial_state.data_file", name


def check_unload(parameters: Mapping[str, object]) -> bool:
    """Whether an unload takes dependents with it. Raises InvalidArgument naming a parameter that it does not take."""
    for name, value in parameters.items():
        if name != UNLOAD_DEPENDENTS:
            raise _unknown("unload", name, f"'{UNLOAD_DEPENDENTS}'")
        if not isinstance(value, bool):
            raise InvalidArgument(f"unload parameter '{name}' expects true or false, got {_kind(value)}")
    return bool(parameters.get(UNLOAD_DEPENDENTS, False))


def _config(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"load parameter '{CONFIG}' expects the JSON text of a configuration, got {_kind(value)}")
    if not value.strip():
        raise InvalidArgument(f"load parameter '{CONFIG}' is empty: send the model configuration as JSON text, or {{}}")
    if len(value) > _LARGEST_CONFIG_CHARACTERS:
        raise InvalidArgument(f"load parameter '{CONFIG}' is longer than {_LARGEST_CONFIG_CHARACTERS} characters")
    return value


def _path(parameter: str) -> str:
    """The path that a parameter ``file:<path>`` names: it stays inside the model's directory."""
    path = parameter.removeprefix(FILE_PREFIX)
    parts = path.split("/")
    if not stays_inside(path) or any(part in ("", ".") for part in parts):
        raise InvalidArgument(
            f"load parameter '{printable(parameter, _SHOWN)}': expected a path inside the model's directory, such as "
            f"{FILE_PREFIX}1/model.onnx: relative, without empty parts, '.', '..' or backslashes"
        )
    if len(path.encode()) > _LONGEST_PATH_BYTES or any(len(part.encode()) > _LONGEST_PART_BYTES for part in parts):
        raise InvalidArgument(
            f"load parameter '{printable(parameter, _SHOWN)}': the path is too long; its names may have "
            f"{_LONGEST_PART_BYTES} bytes each and {_LONGEST_PATH_BYTES} in all"
        )
    if len(parts) > _MOST_DEPTH:
        raise InvalidArgument(
            f"load parameter '{printable(parameter, _SHOWN)}': the path has {len(parts)} parts, at most {_MOST_DEPTH} "
            "are accepted"
        )
    return path


def _refuse_many(files: int) -> None:
    if files > _MOST_FILES:
        raise InvalidArgument(f"a load brings {files} files, at most {_MOST_FILES} are accepted")


def _content(parameter: str, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidArgument(
            f"load parameter '{printable(parameter, _SHOWN)}' expects the file's content, as base64 text over HTTP and "
            f"as bytes_param over gRPC, got {_kind(value)}"
        )
    return value


def _refuse_files_as_directories(paths: Collection[str]) -> None:
    for path in paths:
        parts = path.split("/")
        for length in range(1, len(parts)):
            if (above := "/".join(parts[:length])) in paths:
                raise InvalidArgument(
                    f"load parameter '{printable(FILE_PREFIX + above, _SHOWN)}' names a file, and another parameter a "
                    "directory of that name"
                )


def _unknown(action: str, name: str, known: str) -> InvalidArgument:
    return InvalidArgument(f"unknown {action} parameter '{printable(name, _SHOWN)}'; known are {known}")


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", bytes: "bytes"}
    return kinds.get(type(value), "nothing" if value is None else "an object or array")
