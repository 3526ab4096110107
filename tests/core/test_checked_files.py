"""What was checked is what is used, whatever becomes of the repository's files in between."""

import hashlib
from dataclasses import replace
from pathlib import Path

import onnx_models
import pytest
from signed_models import make_key, sign

from ortolan.core.checked_files import FileRules, checks_of, private_companions
from ortolan.core.model_loader import LoadingOptions, load_version, read_config, read_override, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.core.private_model import CopyRules
from ortolan.errors import InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.repository.directory import walk
from ortolan.repository.manifest import MANIFEST
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.override_directory import OverrideDirectories
from ortolan.repository.signatures import SignatureRule, Signatures, Signers

pytest.importorskip("model_signing")

CONFIG = """
max_batch_size: 4
output { name: "y" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }
input { name: "x" data_type: TYPE_FP32 dims: 4 }
model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 input_data_file: "x" } } }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a model ``m`` that has labels and warm-up data, and is not signed."""
    root = tmp_path / "repository"
    onnx_models.save_version(root, "m", onnx_models.adder(1), config=CONFIG)
    (root / "m" / "labels.txt").write_text("a\nb\nc\nd\n")
    (root / "m" / "warmup").mkdir()
    (root / "m" / "warmup" / "x").write_bytes(bytes(16))
    return root


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path)


@pytest.fixture
def rules(root: Path, keys: tuple[Path, Path]) -> FileRules:
    (root.parent / "copies").mkdir()
    return rules_of(root, keys[1], "require")


def rules_of(root: Path, key: Path, rule: SignatureRule) -> FileRules:
    directories = OverrideDirectories(root.parent / "copies")
    return FileRules(directories, signatures=Signatures(rule, Signers(keys=[key])))


def entry_of(root: Path) -> ModelEntry:
    return walk([root]).models["m"]


def load(root: Path, rules: FileRules, config: ModelConfig | None = None) -> LoadedModel:
    options = LoadingOptions(
        DeviceInventory(cores=1),
        DeviceShares(1),
        copies=CopyRules(rules.directories),
        manifest=rules.manifest,
        signatures=rules.signatures,
    )
    entry = entry_of(root)
    config = config or read_config(entry)
    (version,) = wanted_versions(entry, config).values()
    return load_version(entry, config, version, options)


def test_a_signed_model_loads_and_leaves_nothing_behind(root: Path, keys: tuple[Path, Path], rules: FileRules) -> None:
    sign(root / "m", keys[0])
    assert load(root, rules).labels == {"y": ("a", "b", "c", "d")}
    assert not [path for path in (root.parent / "copies").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["1/model.onnx", "config.pbtxt", "labels.txt", "warmup/x"])
def test_no_file_that_is_used_may_differ(root: Path, keys: tuple[Path, Path], rules: FileRules, name: str) -> None:
    sign(root / "m", keys[0])
    file = root / "m" / name
    file.write_bytes(file.read_bytes()[:-1] + b"\n\n")
    with pytest.raises(InvalidArgument, match=f"'{name}' is not what was signed|model.onnx"):
        load(root, rules)


def test_a_configuration_that_was_there_for_a_moment_is_found_out(
    root: Path, keys: tuple[Path, Path], rules: FileRules
) -> None:
    """It is read first and compared later; in between somebody puts the right one back."""
    sign(root / "m", keys[0])
    path = root / "m" / "config.pbtxt"
    right = path.read_bytes()
    path.write_bytes(right.replace(b"max_batch_size: 4", b"max_batch_size: 8"))
    wrong = read_config(entry_of(root))
    path.write_bytes(right)
    with pytest.raises(InvalidArgument, match=r"'config.pbtxt' is not what was signed"):
        load(root, rules, wrong)


def test_the_same_holds_for_manifests(root: Path, rules: FileRules) -> None:
    path = root / "m" / "config.pbtxt"
    right = path.read_bytes()
    (root / "m" / MANIFEST).write_text(f"{hashlib.sha256(right).hexdigest()}  config.pbtxt\n")
    path.write_bytes(right + b"\n")
    wrong = read_config(entry_of(root))
    path.write_bytes(right)
    with pytest.raises(InvalidArgument, match=f"'config.pbtxt' is not what its {MANIFEST} says"):
        load(root, replace(rules, signatures=Signatures()), wrong)


def test_what_a_configuration_names_is_read_from_the_copies_that_were_checked(
    root: Path, keys: tuple[Path, Path], rules: FileRules
) -> None:
    sign(root / "m", keys[0])
    entry, config = entry_of(root), read_config(entry_of(root))
    checks = checks_of(entry, config, root / "m" / "1", root / "m" / "1" / "model.onnx", rules)
    with private_companions(entry, config, checks, rules.directories) as companions:
        (root / "m" / "labels.txt").write_text("changed")
        (root / "m" / "warmup" / "x").unlink()
        assert (companions.directory / "labels.txt").read_text() == "a\nb\nc\nd\n"
        assert (companions.directory / "warmup" / "x").read_bytes() == bytes(16)
    assert not companions.directory.exists()


def with_library(root: Path, library: Path) -> ModelConfig:
    path = root / "m" / "config.pbtxt"
    path.write_text(f'{CONFIG}model_operations {{ op_library_filename: "{library}" }}')
    return read_config(entry_of(root))


def test_libraries_of_operators_are_loaded_from_where_they_were_checked(
    root: Path, keys: tuple[Path, Path], rules: FileRules
) -> None:
    library = root / "m" / "ops.so"
    library.write_bytes(b"code")
    config = with_library(root, library)
    sign(root / "m", keys[0])
    entry = entry_of(root)
    checks = checks_of(entry, config, root / "m" / "1", None, rules)
    with private_companions(entry, config, checks, rules.directories) as companions:
        library.write_bytes(b"evil")
        (path,) = companions.libraries
        assert Path(path).is_relative_to(root.parent / "copies")
        assert Path(path).name == "ops.so"
        assert Path(path).read_bytes() == b"code"
    with (
        pytest.raises(InvalidArgument, match=r"'ops.so' is not what was signed"),
        private_companions(entry, config, checks, rules.directories),
    ):
        raise AssertionError("unreachable")


def test_libraries_from_elsewhere_are_not_signed(root: Path, keys: tuple[Path, Path], rules: FileRules) -> None:
    library = root.parent / "ops.so"
    library.write_bytes(b"code")
    with_library(root, library)
    sign(root / "m", keys[0])
    with pytest.raises(InvalidArgument, match=r"'ops.so' is not in the model's directory"):
        load(root, rules)


@pytest.mark.parametrize("text", ["{}", '{"max_batch_size": 8}'])
def test_a_configuration_that_a_client_sends_is_not_signed(
    root: Path, keys: tuple[Path, Path], rules: FileRules, text: str
) -> None:
    sign(root / "m", keys[0])
    sent = read_override(entry_of(root), text, with_files=False)
    with pytest.raises(InvalidArgument, match="a configuration that comes with a load is not signed"):
        load(root, rules, sent)
    load(root, rules_of(root, keys[1], "check"), sent)


def test_a_model_without_a_configuration_needs_none_that_is_signed(
    root: Path, keys: tuple[Path, Path], rules: FileRules
) -> None:
    (root / "m" / "config.pbtxt").unlink()
    sign(root / "m", keys[0])
    assert load(root, rules).name == "m"


def test_a_version_that_was_added_later_is_refused(root: Path, keys: tuple[Path, Path], rules: FileRules) -> None:
    sign(root / "m", keys[0])
    onnx_models.save_version(root, "m", onnx_models.adder(2), version=2)
    with pytest.raises(InvalidArgument, match=r"'2/model.onnx' is not signed"):
        load(root, rules)


def test_without_anything_to_check_nothing_is_copied(root: Path, keys: tuple[Path, Path]) -> None:
    entry, config = entry_of(root), read_config(entry_of(root))
    rules = rules_of(root, keys[1], "check")
    checks = checks_of(entry, config, root / "m" / "1", None, rules)
    with private_companions(entry, config, checks, rules.directories) as companions:
        assert companions.directory == entry.directory
