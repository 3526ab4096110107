"""model.sig: only what a trusted signer signed is taken, and nothing of it may be missing."""

import json
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from signed_models import make_certificates, make_key, sign, sign_with_certificate

from ortolan.errors import InvalidArgument, StartupError
from ortolan.repository.directory import walk
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.signatures import NotVerified, SignatureRule, Signatures, Signers
from ortolan.repository.signed_files import SignedFiles, read_signed_files

pytest.importorskip("model_signing")

MODEL = sha256(b"model").hexdigest()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's directory that is not signed."""
    directory = tmp_path / "repository" / "m"
    for name in ("1/model.onnx", "2/model.onnx", "config.pbtxt", "labels.txt", "test_data_set_0/output_0.pb"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(b"model")
    return directory


def entry_of(model: Path) -> ModelEntry:
    return walk([model.parent]).models[model.stem]


def signed(model: Path, *keys: Path, rule: SignatureRule = "check") -> SignedFiles | None:
    return read_signed_files(entry_of(model), Signatures(rule, Signers(keys=keys)))


def known(files: SignedFiles | None) -> SignedFiles:
    assert files is not None
    return files


def test_what_was_signed_is_taken_and_nothing_else(model: Path, keys: tuple[Path, Path]) -> None:
    sign(model, keys[0])
    files = known(signed(model, keys[1]))
    files.check(model / "1" / "model.onnx", MODEL)
    with pytest.raises(InvalidArgument, match=r"'1/model.onnx' is not what was signed: expected SHA-256"):
        files.check(model / "1" / "model.onnx", "0" * 64)
    with pytest.raises(InvalidArgument, match=r"'3/model.onnx' is not signed"):
        files.check(model / "3" / "model.onnx", MODEL)
    with pytest.raises(InvalidArgument, match=r"'x.so' is not in the model's directory"):
        files.check(model.parent / "x.so", MODEL)
    with pytest.raises(InvalidArgument, match=r"is not in the model's directory|is not signed"):
        files.check(model / ".." / "x.so", MODEL)


def test_the_signer_must_be_one_that_is_trusted(model: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    stranger, strangers_public = make_key(tmp_path, "stranger")
    sign(model, stranger)
    with pytest.raises(InvalidArgument, match=r"its signature model.sig is not by a signer whom this server trusts"):
        signed(model, keys[1])
    assert known(signed(model, keys[1], strangers_public)).hashes["1/model.onnx"] == MODEL


def test_an_altered_signature_does_not_count(model: Path, keys: tuple[Path, Path]) -> None:
    file = sign(model, keys[0])
    bundle = json.loads(file.read_text())
    payload = bundle["dsseEnvelope"]["payload"]
    bundle["dsseEnvelope"]["payload"] = payload[:-8] + ("A" if payload[-8] != "A" else "B") + payload[-7:]
    file.write_text(json.dumps(bundle))
    with pytest.raises(InvalidArgument, match="or was altered"):
        signed(model, keys[1])


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff\xfe", b"null", b'{"verificationMaterial": {}}', b"[" * 9999]
)
def test_what_is_no_signature_does_not_count(model: Path, keys: tuple[Path, Path], content: bytes) -> None:
    (model / "model.sig").write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"its signature model.sig is not by a signer"):
        signed(model, keys[1])


@pytest.mark.parametrize("gone", ["config.pbtxt", "2/model.onnx", "test_data_set_0/output_0.pb"])
def test_what_decides_what_is_loaded_may_not_be_taken_away(model: Path, keys: tuple[Path, Path], gone: str) -> None:
    sign(model, keys[0])
    (model / gone).unlink()
    with pytest.raises(InvalidArgument, match=f"'{gone}' was signed and is not there"):
        signed(model, keys[1])


def test_other_files_may_be(model: Path, keys: tuple[Path, Path]) -> None:
    """Sources leave out what no load reads, such as weights for other frameworks."""
    sign(model, keys[0])
    (model / "labels.txt").unlink()
    assert "labels.txt" in known(signed(model, keys[1])).hashes


def test_without_a_signature_it_depends_on_the_rule(model: Path, keys: tuple[Path, Path]) -> None:
    assert signed(model, keys[1]) is None
    with pytest.raises(InvalidArgument, match=r"'m' is not signed, and --model-signature=require wants a model.sig"):
        signed(model, keys[1], rule="require")


def test_a_signature_that_cannot_be_read_is_not_no_signature(model: Path, keys: tuple[Path, Path]) -> None:
    (model / "model.sig").symlink_to("nowhere")
    with pytest.raises(InvalidArgument, match=r"its signature model.sig is not there"):
        signed(model, keys[1])
    (model / "model.sig").unlink()
    os.mkfifo(model / "model.sig")
    with pytest.raises(InvalidArgument, match=r"its signature model.sig cannot be read: not a regular file"):
        signed(model, keys[1])


def test_a_loose_models_signature_has_its_name(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / "loose" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "loose" / name).write_bytes(b"model")
    sign(tmp_path / "loose" / "a.onnx", keys[0])
    model = tmp_path / "loose" / "a.onnx"
    files = known(signed(model, keys[1]))
    files.check(model, MODEL)
    with pytest.raises(InvalidArgument, match=r"'a.onnx' is not what was signed"):
        files.check(model, "0" * 64)
    assert signed(tmp_path / "loose" / "b.onnx", keys[1]) is None


def test_a_signature_for_another_name_of_a_file_does_not_count(model: Path, keys: tuple[Path, Path]) -> None:
    """One of a file alone, laid beside a directory, speaks for no file in it."""
    sign(model / "1" / "model.onnx", keys[0], model / "model.sig")
    with pytest.raises(InvalidArgument, match=r"'config.pbtxt' is not signed"):
        known(signed(model, keys[1])).check(model / "config.pbtxt", MODEL)


def test_certificates_are_followed_to_those_that_are_trusted(model: Path, tmp_path: Path) -> None:
    private, certificate, root = make_certificates(tmp_path)
    _, _, other_root = make_certificates(tmp_path, "other")
    sign_with_certificate(model, private, certificate, root)
    entry = entry_of(model)
    known(read_signed_files(entry, Signatures("require", Signers(certificates=[root])))).check(
        model / "config.pbtxt", MODEL
    )
    with pytest.raises(InvalidArgument, match="is not by a signer whom this server trusts"):
        read_signed_files(entry, Signatures("require", Signers(certificates=[other_root])))


def test_a_key_does_not_pass_for_a_certificate(model: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    _, _, root = make_certificates(tmp_path)
    sign(model, keys[0])
    with pytest.raises(InvalidArgument, match="is not by a signer whom this server trusts"):
        read_signed_files(entry_of(model), Signatures("check", Signers(certificates=[root])))


def test_hashes_of_another_kind_are_refused(model: Path, keys: tuple[Path, Path]) -> None:
    from model_signing import hashing, signing

    blake = hashing.Config().use_file_serialization(hashing_algorithm="blake2")
    signing.Config().use_elliptic_key_signer(private_key=keys[0]).set_hashing_config(blake).sign(
        model, model / "model.sig"
    )
    with pytest.raises(InvalidArgument, match="does not have a SHA-256 of each file"):
        signed(model, keys[1])


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read: No such file"), (b"secret", "cannot be used: ")])
def test_a_key_that_cannot_be_used_ends_the_start(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "k").write_bytes(content)
    for signers in (Signers(keys=[tmp_path / "k"]), Signers(certificates=[tmp_path / "k"]), _identity(tmp_path / "k")):
        with pytest.raises(StartupError, match=said) as refusal:
            Signatures("require", signers)
        assert "secret" not in str(refusal.value)


def _identity(trust: Path) -> Signers:
    return Signers(identity="somebody", issuer="https://issuer.example", trust=trust)


def test_without_any_signer_nothing_is_verified() -> None:
    with pytest.raises(NotVerified):
        Signatures("check").hashes(b"{}")


def test_a_signature_from_outside_counts_and_is_not_quoted(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    sign(model, keys[0])
    outside = (model / "model.sig").rename(tmp_path / "outside.sig")
    (model / "model.sig").symlink_to(outside)
    known(signed(model, keys[1])).check(model / "1" / "model.onnx", MODEL)
    with pytest.raises(InvalidArgument, match=r"is not what was signed; its text is not shown") as refused:
        known(signed(model, keys[1])).check(model / "1" / "model.onnx", "0" * 64)
    assert MODEL not in refused.value.message
    (model / "2" / "model.onnx").unlink()
    with pytest.raises(InvalidArgument, match="a file was signed and is not there") as refused:
        signed(model, keys[1])
    assert "2/model.onnx" not in refused.value.message
    outside.write_text("hunter2")
    with pytest.raises(InvalidArgument, match=r"model.sig is not by a signer .*; its text is not shown") as refused:
        signed(model, keys[1])
    assert "hunter2" not in refused.value.message


def test_nothing_is_read_when_it_is_off(model: Path) -> None:
    (model / "model.sig").write_bytes(b"no signature")
    assert read_signed_files(replace(entry_of(model)), Signatures()) is None
