"""SHA256SUMS: what sha256sum writes is read, and what it does not say is refused."""

import hashlib
from pathlib import Path

import pytest

from ortolan.errors import InvalidArgument
from ortolan.repository.manifest import ManifestRule, parse_manifest, read_manifests

A, B = "a" * 64, "b" * 64
HASH = hashlib.sha256(b"model").hexdigest()


@pytest.mark.parametrize(
    ("text", "hashes"),
    [
        ("", {}),
        (f"{A}  1/model.onnx\n", {"1/model.onnx": A}),
        (f"{A} *1/model.onnx\n{B}  config.pbtxt", {"1/model.onnx": A, "config.pbtxt": B}),
        (f"{A.upper()}  ./1/model.onnx\r\n\r\n", {"1/model.onnx": A}),
        (f"# of June\n\n{A}  name with  blanks\n", {"name with  blanks": A}),
        (f"{A}  x\n{A}  x\n", {"x": A}),
    ],
)
def test_lines_are_read(text: str, hashes: dict[str, str]) -> None:
    assert parse_manifest(text) == hashes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "line 1 is not 64 hexadecimal digits"),
        (f"{A}  x\n{A[:63]}  y", "line 2 is not"),
        (f"{A}", "line 1 is not"),
        (f"SHA256 (x) = {A}", "line 1 is not"),
        (f"\\{A}  a\\nb", "line 1 is not"),
        (f"{A}  x\n{B}  ./x", "line 2 contradicts an earlier line about 'x'"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_manifest(text)


def checked(tmp_path: Path, name: str, rule: ManifestRule = "check") -> None:
    directories = (tmp_path / "m" / "1", tmp_path / "m")
    file = tmp_path / "m" / name
    read_manifests("m", directories, rule).check(file, hashlib.sha256(file.read_bytes()).hexdigest())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A model without a manifest."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    for name in ("1/model.onnx", "1/other", "config.pbtxt"):
        (tmp_path / "m" / name).write_bytes(b"model")
    return tmp_path


def test_without_a_manifest_there_is_nothing_to_check(files: Path) -> None:
    checked(files, "1/model.onnx")


def test_one_may_be_required(files: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no SHA256SUMS says what 'model.onnx' must be"):
        checked(files, "1/model.onnx", "require")


def test_what_is_listed_must_match_and_the_rest_is_refused(files: Path) -> None:
    (files / "m" / "SHA256SUMS").write_text(f"{HASH}  1/model.onnx\n{A}  config.pbtxt\n")
    checked(files, "1/model.onnx")
    with pytest.raises(InvalidArgument, match=rf"'config.pbtxt' is not what .* expected SHA-256 {A}, got {HASH}"):
        checked(files, "config.pbtxt")
    with pytest.raises(InvalidArgument, match="'1/other' is not in its SHA256SUMS"):
        checked(files, "1/other")
    checked(files, "1/other", "off")


def test_the_versions_own_manifest_speaks_for_its_files_and_no_others(files: Path) -> None:
    (files / "m" / "SHA256SUMS").write_text(f"{A}  1/model.onnx\n")
    (files / "m" / "1" / "SHA256SUMS").write_text(f"{HASH}  model.onnx\n")
    checked(files, "1/model.onnx")
    with pytest.raises(InvalidArgument, match=r"'config.pbtxt' is not in"):
        checked(files, "config.pbtxt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{A}  1/model.onnx\n", "'1/model.onnx' is not what its SHA256SUMS says; its text is not shown"),
        (f"{A}  hunter2\n{HASH}  hunter2\n", "cannot be used at line 2; its text is not shown"),
        ("hunter2\n", "cannot be used at line 1; its text is not shown"),
    ],
)
def test_a_manifest_from_outside_counts_and_is_not_quoted(files: Path, text: str, said: str) -> None:
    (files / "outside").write_text(text)
    (files / "m" / "SHA256SUMS").symlink_to(files / "outside")
    with pytest.raises(InvalidArgument, match=said) as refused:
        checked(files, "1/model.onnx")
    assert "hunter2" not in refused.value.message
    assert A not in refused.value.message
    # What is in the repository may be linked to and shown.
    with pytest.raises(InvalidArgument) as refused:
        read_manifests("m", [files / "m"], "check", [files]).check(files / "m" / "1" / "model.onnx", HASH)
    assert "not shown" not in refused.value.message


def test_a_manifest_that_cannot_be_read_refuses_everything(files: Path) -> None:
    manifest = files / "m" / "SHA256SUMS"
    manifest.symlink_to("nowhere")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        checked(files, "1/model.onnx")
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(InvalidArgument, match="cannot be read"):
        checked(files, "1/model.onnx")
    manifest.rmdir()
    manifest.write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="is not UTF-8"):
        checked(files, "1/model.onnx")
    manifest.write_text("<html>")
    with pytest.raises(InvalidArgument, match="line 1 is not"):
        checked(files, "1/model.onnx")
