"""What a client may send with a load or an unload: its parameters → what is to be done. Pure.

The names and meanings are those of the model repository extension: ``config`` is the JSON text of a model
configuration, which replaces the file's as a whole; ``file:<path>`` is one file of a model directory that replaces the
repository's; ``unload_dependents`` asks to unload what only an ensemble needs.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ortolan.errors import InvalidArgument
from ortolan.inference.printable import printable
from ortolan.repository.file_names import stays_inside
from ortolan.repository.model_config import ModelConfig

CONFIG = "config"
FILE_PREFIX = "file:"
UNLOAD_DEPENDENTS = "unload_dependents"

_LARGEST_CONFIG_CHARACTERS = 4 * 1024 * 1024
# What file systems take: 255 bytes for each part, and 4096 for a path, of which the directory above needs some.
_LONGEST_PART_BYTES = 255
_LONGEST_PATH_BYTES = 1024
_SHOWN = 80
# How the names of those options of execution providers end that are paths.
_FILE_OPTIONS = ("path", "paths", "dir", "directory", "prefix", "table_name")


@dataclass(frozen=True, slots=True)
class LoadOverride:
    """What a model is loaded from, in place of what is on disk, until its next load or unload."""

    config: str
    """JSON text, not parsed yet."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Contents by their paths in the model's directory; none to use the repository's."""


def load_override(parameters: Mapping[str, object]) -> LoadOverride | None:
    """What the ``parameters`` of a load ask for; None without any. Raises InvalidArgument naming the parameter."""
    if not parameters:
        return None
    config = ""
    files: dict[str, bytes] = {}
    for name, value in parameters.items():
        if name == CONFIG:
            config = _config(value)
        elif name.startswith(FILE_PREFIX):
            files[_path(name)] = _content(name, value)
        else:
            raise _unknown("load", name, f"'{CONFIG}' and '{FILE_PREFIX}<path>'")
    if not config:
        raise InvalidArgument(
            f"load parameter '{CONFIG}' is required when files are given: send the model configuration as JSON text, "
            "{} to have it completed from the model"
        )
    _refuse_files_as_directories(files)
    return LoadOverride(config, files)


def refuse_server_files(config: ModelConfig, own: ModelConfig | None) -> None:
    """Raises InvalidArgument when ``config``, which a client sent, has the server load or write files of its machine.

    ``own`` is the configuration on disk, whose author may do that and be repeated.
    """
    allowed = _server_files(own) if own is not None else set()
    for setting, value in sorted(_server_files(config) - allowed):
        raise InvalidArgument(
            f"load parameter '{CONFIG}': {setting} '{printable(value, _SHOWN)}' names a file of the server, which only "
            "the model's own config.pbtxt may do; put it there"
        )


def _server_files(config: ModelConfig) -> set[tuple[str, str]]:
    """The settings that name files: libraries of operators, plugins, caches."""
    found = {("model_operations.op_library_filename", name) for name in config.op_library_filenames}
    optimization = config.optimization
    for accelerator in (*optimization.gpu_accelerators, *optimization.cpu_accelerators):
        named = ((key, value) for key, value in accelerator.parameters.items() if key.lower().endswith(_FILE_OPTIONS))
        found |= {
            (f"option '{printable(key, _SHOWN)}' of accelerator '{accelerator.name}'", value) for key, value in named
        }
    return found


def check_unload(parameters: Mapping[str, object]) -> None:
    """Raises InvalidArgument naming the parameter that an unload does not take. There are no dependents here yet."""
    for name, value in parameters.items():
        if name != UNLOAD_DEPENDENTS:
            raise _unknown("unload", name, f"'{UNLOAD_DEPENDENTS}'")
        if not isinstance(value, bool):
            raise InvalidArgument(f"unload parameter '{name}' expects true or false, got {_kind(value)}")


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
    return path


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
