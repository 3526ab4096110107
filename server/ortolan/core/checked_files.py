"""What of a load is checked besides the model's own file, and private copies of it, so that what was checked is used.

Labels, warm-up data, initial states and libraries of operators are read, or loaded as code, some time after they were
compared with a manifest or a signature. Whoever writes the repository could change them in between; so where anything
is compared, the copies are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ortolan.errors import InvalidArgument
from ortolan.execution.sequence_state import DIRECTORY as STATES_DIRECTORY
from ortolan.inference.printable import printable
from ortolan.repository import config_completion
from ortolan.repository.file_checks import FileChecks
from ortolan.repository.file_names import stays_inside
from ortolan.repository.golden_files import GoldenRule
from ortolan.repository.manifest import ManifestRule, read_manifests
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.override_directory import OverrideDirectories
from ortolan.repository.private_files import FileRefused, copy_privately, open_inside
from ortolan.repository.signatures import Signatures
from ortolan.repository.signed_files import read_signed_files

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class FileRules:
    """What the operator wants compared, and where private copies go."""

    directories: OverrideDirectories
    manifest: ManifestRule = "check"
    signatures: Signatures = field(default_factory=Signatures)
    golden: GoldenRule = "check"


@dataclass(frozen=True, slots=True)
class Companions:
    """The files that a configuration names. ``directory`` has them where the model's directory would."""

    directory: Path
    libraries: tuple[str, ...] = ()


def checks_of(
    entry: ModelEntry, config: ModelConfig, version: Path, model: Path | None, rules: FileRules
) -> FileChecks:
    """What a load of the version in the directory ``version``, and of its file ``model``, has to match.

    Its configuration is compared with that here. Raises InvalidArgument when it does not match, or when manifests and
    signatures are not as ``rules`` want them.
    """
    above = (model.parent,) if model is not None else ()
    manifests = read_manifests(entry.name, (*above, version, entry.directory), rules.manifest, (entry.repository,))
    checks = FileChecks(manifests, read_signed_files(entry, rules.signatures))
    if config.file_sha256 and entry.config_path is not None:
        checks.check(entry.config_path, config.file_sha256)
    elif rules.signatures.required and not _is_nobodys(config):
        raise InvalidArgument(
            f"model '{entry.name}': a configuration that comes with a load is not signed, which "
            "--model-signature=require forbids: put it into the model's config.pbtxt, and sign the model"
        )
    return checks


@contextmanager
def private_companions(
    entry: ModelEntry, config: ModelConfig, checks: FileChecks, directories: OverrideDirectories
) -> Iterator[Companions]:
    """The files that ``config`` names while the model loads: private copies that ``checks`` found right.

    Without anything to check they are the model's own. Raises InvalidArgument for a file that is not as it should be,
    Internal when the copies cannot be written.
    """
    libraries = [_Library(Path(name).absolute(), name) for name in config.op_library_filenames]
    if not checks.active:
        yield Companions(entry.directory, config.op_library_filenames)
        return
    folder = directories.new()
    try:
        for name in _named_files(config):
            _take(entry, entry.directory / name, folder / name, checks)
        taken = [_take_library(entry, each, folder / f"library{n}", checks) for n, each in enumerate(libraries)]
        yield Companions(folder, tuple(taken))
    finally:
        directories.remove(folder)


@dataclass(frozen=True, slots=True)
class _Library:
    path: Path
    name: str


def _is_nobodys(config: ModelConfig) -> bool:
    """Whether the configuration is the one of a model without any."""
    return replace(config, name="") == config_completion.default_config("")


def _named_files(config: ModelConfig) -> list[PurePosixPath]:
    """Those that are read from the model's directory, each once. Names that lead out of it are refused by who reads."""
    names = [output.label_filename for output in config.outputs]
    names += [f"warmup/{given.file}" for sample in config.warmup for given in sample.inputs if given.file]
    states = config.sequence_batching.files if config.sequence_batching else ()
    names += [f"{STATES_DIRECTORY}/{name}" for name in states]
    return [PurePosixPath(name) for name in dict.fromkeys(names) if name and stays_inside(name)]


def _take_library(entry: ModelEntry, library: _Library, folder: Path, checks: FileChecks) -> str:
    """Where the library is to be loaded from."""
    if not library.path.is_relative_to(entry.directory) and not checks.speaks_for_all:
        return library.name
    _take(entry, library.path, folder / library.path.name, checks)
    return str(folder / library.path.name)


def _take(entry: ModelEntry, path: Path, copy: Path, checks: FileChecks) -> None:
    # Two names may be one file: it is the same then, unless somebody changes it just now.
    if copy.exists():
        return
    roots = (entry.directory,) if path.is_relative_to(entry.directory) else (path.parent,)
    try:
        with open_inside(path, roots) as file:
            sha256 = copy_privately(file, copy)
    except FileRefused as reason:
        raise reason.kind(f"model '{entry.name}': '{printable(path.name, _SHOWN)}' {reason}") from reason
    checks.check(path, sha256)
