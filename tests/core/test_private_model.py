"""The server's own copies: what is loaded is what was checked, and nobody else's file is ever loaded."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnx_sequences
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.core.private_model import LARGEST_IN_MEMORY_BYTES, CopyRules, PrivateModel, take_privately
from ortolan.errors import Internal, InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.repository.directory import walk
from ortolan.repository.file_checks import FileChecks
from ortolan.repository.manifest import ManifestRule, Manifests
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.override_directory import OverrideDirectories

SECRET = np.arange(4, dtype=np.float32)


def with_external_data(location: str) -> onnx.ModelProto:
    """y = x + w, where w is in the file ``location``."""
    proto = onnx_models.model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ("batch", 4))],
        [("y", TensorProto.FLOAT, ("batch", 4))],
    )
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=location)
    proto.graph.initializer.append(weights)
    return proto


def large() -> onnx.ModelProto:
    """y = 2x, in a file that is too large to be loaded from memory."""
    proto = onnx_models.doubler()
    padding = np.zeros(LARGEST_IN_MEMORY_BYTES, np.uint8)
    proto.graph.initializer.append(numpy_helper.from_array(padding, "padding"))
    return proto


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "repository").mkdir()
    (tmp_path / "copies").mkdir()
    return tmp_path / "repository"


@pytest.fixture
def rules(root: Path) -> CopyRules:
    return CopyRules(OverrideDirectories(root.parent / "copies"))


def copies(root: Path) -> list[str]:
    """The names of what is copied now."""
    return sorted(path.name for path in (root.parent / "copies").glob("*/*/**/*") if path.is_file())


def entry_of(root: Path, name: str = "m") -> ModelEntry:
    return walk([root]).models[name]


def load(root: Path, rules: CopyRules, manifest: ManifestRule = "check", name: str = "m") -> LoadedModel:
    options = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1), copies=rules, manifest=manifest)
    entry = entry_of(root, name)
    config = read_config(entry)
    (version,) = wanted_versions(entry, config).values()
    return load_version(entry, config, version, options)


def take(root: Path, rules: CopyRules, manifests: Manifests | None = None) -> PrivateModel:
    return take_privately(
        entry_of(root), root / "m" / "1" / "model.onnx", FileChecks(manifests or Manifests("m")), rules
    )


def answer(loaded: LoadedModel, x: float = 1) -> list[float]:
    _, session, _ = loaded.instances[0]
    return [float(number) for number in session.run({"x": np.full((1, 4), x, np.float32)}, ["y"])[0][0]]


def save_with_weights(root: Path, location: str = "w.bin", stands: str = "w.bin") -> Path:
    onnx_models.save_version(root, "m", with_external_data(location))
    weights = root / "m" / "1" / stands
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(SECRET.tobytes())
    return weights


def test_a_small_model_without_external_data_needs_no_disk(root: Path) -> None:
    path = onnx_models.save_version(root, "m", onnx_models.doubler())
    taken = take(root, CopyRules(OverrideDirectories(root / "nowhere")))
    assert taken.source == (root / "m" / "1" / "model.onnx").read_bytes()
    assert taken.facts.sha256 == hashlib.sha256(taken.source).hexdigest()
    assert not taken.maps_files
    assert path


def test_a_large_one_is_copied_for_as_long_as_it_loads(root: Path, rules: CopyRules) -> None:
    onnx_models.save_version(root, "m", large())
    taken = take(root, rules)
    assert isinstance(taken.source, Path)
    assert taken.facts.sha256 == hashlib.sha256(taken.source.read_bytes()).hexdigest()
    assert copies(root) == ["model.onnx"]
    assert oct(taken.folder.parent.stat().st_mode & 0o777) == "0o700" or sys.platform == "win32"
    taken.remove()
    assert copies(root) == []
    assert answer(load(root, rules)) == [2] * 4
    assert copies(root) == []


@pytest.mark.parametrize("location", ["w.bin", "deep/er/w.bin", "./w.bin"])
def test_external_data_is_copied_for_as_long_as_the_model_is_loaded(
    root: Path, rules: CopyRules, location: str
) -> None:
    weights = save_with_weights(root, location, location)
    loaded = load(root, rules)
    assert copies(root) == ["model.onnx", "w.bin"]
    weights.write_bytes(b"")
    assert answer(loaded) == [1, 2, 3, 4]
    loaded.remove_files()
    assert copies(root) == []
    assert answer(loaded) == [1, 2, 3, 4]


def test_the_hash_stands_for_the_external_data_too(root: Path, rules: CopyRules) -> None:
    weights = save_with_weights(root)
    before = take(root, rules).facts.sha256
    assert take(root, rules).facts.sha256 == before
    weights.write_bytes((SECRET + 1).tobytes())
    assert take(root, rules).facts.sha256 != before


def test_a_model_that_has_its_external_data_at_its_own_end_is_loaded(root: Path, rules: CopyRules) -> None:
    proto = with_external_data("model.onnx")
    proto.graph.initializer[0].external_data.add(key="offset", value=f"{4096:08}")
    onnx_models.save_version(root, "m", proto)
    path = root / "m" / "1" / "model.onnx"
    content = path.read_bytes()
    # As a field that nobody knows, so that the file stays a protobuf message.
    filler = 4096 - len(content) - 4
    size = filler + SECRET.nbytes
    path.write_bytes(content + b"\xfa\x7f" + bytes([size & 0x7F | 0x80, size >> 7]) + bytes(filler) + SECRET.tobytes())
    assert answer(load(root, rules)) == [1, 2, 3, 4]


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
@pytest.mark.parametrize(
    ("location", "make", "reason"),
    [
        ("../../../secret", None, r"keeps data in '\.\./\.\./\.\./secret', which is not inside its directory"),
        ("a/../../../../secret", None, "not inside its directory"),
        ("{secret}", None, "not inside its directory"),
        ("", None, "not inside its directory"),
        ("*/_ORT_MEM_ADDR_/*", None, r"external data '\*/_ORT_MEM_ADDR_/\*' is not there"),
        ("w.bin", None, "external data 'w.bin' is not there"),
        ("w.bin", lambda path, secret: path.symlink_to(secret), "'w.bin' is a symbolic link that leads out"),
        ("w.bin", lambda path, _: path.symlink_to("../../../secret"), "'w.bin' is a symbolic link that leads out"),
        ("d/secret", lambda path, secret: path.parent.symlink_to(secret.parent), "'d/secret' is a symbolic link that"),
        ("w.bin", lambda path, _: path.mkdir(), "'w.bin' cannot be read: not a regular file"),
        ("w.bin", lambda path, _: fifo(path), "'w.bin' cannot be read: not a regular file"),
        ("w.bin", lambda path, _: path.symlink_to("/dev/zero"), "'w.bin' is a symbolic link that leads out"),
    ],
)
def test_only_the_models_own_files_are_its_external_data(
    root: Path, rules: CopyRules, location: str, make: Callable[[Path, Path], None] | None, reason: str
) -> None:
    secret = root.parent / "secret"
    secret.write_bytes(SECRET.tobytes())
    location = location.format(secret=secret)
    onnx_models.save_version(root, "m", with_external_data(location))
    if make:
        make(root / "m" / "1" / location, secret)
    with pytest.raises(InvalidArgument, match=reason) as refusal:
        load(root, rules)
    # What the model itself says may be shown; where it would have led may not.
    assert str(root.parent) not in refusal.value.message.replace(location or "-", "")
    assert copies(root) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_versions_may_share_their_weights_by_links_within_the_model(root: Path, rules: CopyRules) -> None:
    save_with_weights(root).rename(root / "m" / "shared.bin")
    (root / "m" / "1" / "w.bin").symlink_to("../shared.bin")
    assert answer(load(root, rules)) == [1, 2, 3, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_a_version_that_is_a_link_elsewhere_has_its_weights_there(root: Path, rules: CopyRules) -> None:
    save_with_weights(root)
    (root / "m" / "1").rename(root.parent / "elsewhere")
    (root / "m" / "1").symlink_to("../../elsewhere")
    assert answer(load(root, rules)) == [1, 2, 3, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_hard_links_are_refused_where_that_is_wanted(root: Path, rules: CopyRules) -> None:
    (root.parent / "secret").hardlink_to(save_with_weights(root))
    assert answer(load(root, rules)) == [1, 2, 3, 4]
    with pytest.raises(InvalidArgument, match=r"'w.bin' has further names \(hard links\)"):
        load(root, replace(rules, allow_hard_links=False))


def test_a_damaged_file_that_may_name_others_is_refused(root: Path, rules: CopyRules) -> None:
    save_with_weights(root)
    path = root / "m" / "1" / "model.onnx"
    # A group, which protobuf's readers skip and we do not.
    path.write_bytes(b"\x0b\x0c" + path.read_bytes())
    with pytest.raises(InvalidArgument, match="is damaged, truncated or no ONNX model"):
        load(root, rules)


def test_what_only_looks_as_if_it_named_others_is_told_for_what_it_is(root: Path, rules: CopyRules) -> None:
    save_with_weights(root)
    (root / "m" / "1" / "model.onnx").write_bytes(b"<!DOCTYPE html><html>see the other location</html>")
    with pytest.raises(InvalidArgument, match=r"its file 'model\.onnx' is an HTML page"):
        load(root, rules)


@pytest.mark.parametrize("proto", [large(), with_external_data("w.bin")], ids=["large", "external"])
def test_without_a_place_for_copies_a_load_says_so(root: Path, proto: onnx.ModelProto) -> None:
    onnx_models.save_version(root, "m", proto)
    nowhere = OverrideDirectories(root / "nowhere")
    with pytest.raises(Internal, match=r"No such file or directory. --model-copy-directory says") as refusal:
        load(root, CopyRules(nowhere))
    assert str(root) not in refusal.value.message


# -- manifests ---------------------------------------------------------------------------------------------------------


def listed(root: Path, *names: str) -> str:
    hashes = {name: hashlib.sha256((root / "m" / name).read_bytes()).hexdigest() for name in names}
    return "".join(f"{sha256}  {name}\n" for name, sha256 in hashes.items())


def test_every_file_that_is_loaded_must_be_as_the_manifest_says(root: Path, rules: CopyRules) -> None:
    weights = save_with_weights(root)
    labels = 'output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" }]'
    (root / "m" / "labels.txt").write_text("a\nb")
    (root / "m" / "config.pbtxt").write_text(
        'input [{ name: "x" data_type: TYPE_FP32 dims: [ 4 ] }] max_batch_size: 2 ' + labels
    )
    names = ["1/model.onnx", "1/w.bin", "config.pbtxt", "labels.txt"]
    manifest = root / "m" / "SHA256SUMS"
    for left_out in names:
        manifest.write_text(listed(root, *(name for name in names if name != left_out)))
        with pytest.raises(InvalidArgument, match=f"'{left_out}' is not in its SHA256SUMS"):
            load(root, rules)
        assert copies(root) == []
    manifest.write_text(listed(root, *names))
    loaded = load(root, rules, "require")
    loaded.remove_files()
    weights.write_bytes((SECRET + 1).tobytes())
    with pytest.raises(InvalidArgument, match=r"'1/w.bin' is not what its SHA256SUMS says"):
        load(root, rules)
    load(root, rules, "off").remove_files()


def test_the_file_of_an_initial_state_must_be_as_the_manifest_says(root: Path, rules: CopyRules) -> None:
    initial = 'initial_state { name: "first" data_type: TYPE_FP32 dims: 1 data_file: "hundred" }'
    config = onnx_sequences.block(onnx_sequences.SUM.replace("dims: [ 1 ]", f"dims: [ 1 ] {initial}"))
    onnx_models.save_version(root, "m", onnx_sequences.accumulator(), config=config)
    (root / "m" / "initial_state").mkdir()
    (root / "m" / "initial_state" / "hundred").write_bytes(np.float32(100).tobytes())
    manifest = root / "m" / "SHA256SUMS"
    manifest.write_text(listed(root, "1/model.onnx", "config.pbtxt"))
    with pytest.raises(InvalidArgument, match="'initial_state/hundred' is not in its SHA256SUMS"):
        load(root, rules)
    manifest.write_text(listed(root, "1/model.onnx", "config.pbtxt", "initial_state/hundred"))
    load(root, rules, "require").remove_files()


@pytest.mark.parametrize("proto", [onnx_models.doubler(), large()], ids=["small", "large"])
def test_a_model_whose_hash_is_another_is_refused(root: Path, rules: CopyRules, proto: onnx.ModelProto) -> None:
    onnx_models.save_version(root, "m", proto)
    (root / "m" / "SHA256SUMS").write_text(f"{'0' * 64}  1/model.onnx\n")
    with pytest.raises(InvalidArgument, match=r"'1/model.onnx' is not what its SHA256SUMS says"):
        load(root, rules)
    assert copies(root) == []


def test_a_manifest_may_be_required(root: Path, rules: CopyRules) -> None:
    onnx_models.save_version(root, "m", onnx_models.doubler())
    with pytest.raises(InvalidArgument, match="--model-manifest=require wants one"):
        load(root, rules, "require")


def test_golden_requests_are_part_of_what_a_manifest_covers(root: Path, rules: CopyRules) -> None:
    onnx_models.save_version(root, "m", onnx_models.doubler())
    folder = root / "m" / "test_data_set_0"
    folder.mkdir()
    for name, value in (("input_0.pb", 1), ("output_0.pb", 2)):
        tensor = numpy_helper.from_array(np.full((1, 4), value, np.float32))
        (folder / name).write_bytes(tensor.SerializeToString())
    (root / "m" / "SHA256SUMS").write_text(listed(root, "1/model.onnx", "test_data_set_0/input_0.pb"))
    with pytest.raises(InvalidArgument, match=r"'test_data_set_0/output_0.pb' is not in"):
        load(root, rules)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_what_sha256sum_writes_is_taken_as_it_is(root: Path, rules: CopyRules) -> None:
    save_with_weights(root)
    written = subprocess.run(
        ["sh", "-c", "find . -type f -exec sha256sum {} +"], cwd=root / "m", capture_output=True, text=True, check=True
    )
    (root / "m" / "SHA256SUMS").write_text(written.stdout)
    assert answer(load(root, rules, "require")) == [1, 2, 3, 4]


def test_a_model_that_is_larger_than_any_can_be_is_refused_at_once(root: Path, rules: CopyRules) -> None:
    os.truncate(onnx_models.save_version(root, "m", onnx_models.doubler()) / "1" / "model.onnx", 8 << 40)
    with pytest.raises(InvalidArgument, match=r"has 8796093022208 bytes, and ONNX Runtime loads at most 2147483647"):
        load(root, rules)
    assert copies(root) == []


def test_a_hash_that_is_known_is_taken_unless_something_checks_it(root: Path, rules: CopyRules) -> None:
    save_with_weights(root)
    rules = replace(rules, known=lambda _: "0" * 64)
    assert answer(load(root, rules)) == [1, 2, 3, 4]
    known = take(root, rules).facts.sha256
    (root / "m" / "SHA256SUMS").write_text(listed(root, "1/model.onnx", "1/w.bin"))
    assert answer(load(root, rules)) == [1, 2, 3, 4]
    assert known == hashlib.sha256(f"{'0' * 64}\n{'0' * 64} w.bin\n".encode()).hexdigest()
