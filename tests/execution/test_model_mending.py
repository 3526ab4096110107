"""Models that are newer than the runtime, or want a locale that is not here, are mended; others are refused as ever."""

import locale
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.load_refusals import ModelNotLoadable
from ortolan.execution.model_mending import open_session
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import InstanceKind

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
NEWEST_OPSET = onnx.defs.onnx_opset_version()
TOO_NEW_IR = 14


def opened(file: Path) -> tuple[Session, tuple[str, ...]]:
    return open_session(file, "m", SessionSettings(), CPU, file.parent)


def saved(tmp_path: Path, proto: onnx.ModelProto) -> Path:
    return onnx_models.save(proto, tmp_path / "model.onnx")


def answer(session: Session, x: Array) -> object:
    return session.run({"x": x}, ["y"])[0].tolist()


X = np.array([[1, -2, 3, -4]], np.float32)


def relu(opset: int, ir_version: int) -> onnx.ModelProto:
    return onnx_models.model(
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        opset=opset,
        ir_version=ir_version,
    )


def test_a_model_that_needs_nothing_is_left_alone(tmp_path: Path) -> None:
    session, notes = opened(saved(tmp_path, relu(17, 8)))
    assert notes == ()
    assert answer(session, X) == [[1, 0, 3, 0]]


def test_a_model_that_is_too_new_is_mended_and_answers_right(tmp_path: Path) -> None:
    file = saved(tmp_path, relu(NEWEST_OPSET, TOO_NEW_IR))
    before = file.read_bytes()
    session, notes = opened(file)
    assert answer(session, X) == [[1, 0, 3, 0]]
    assert any("its IR version 14 was lowered to " in note for note in notes)
    assert file.read_bytes() == before  # the file is the operator's


@pytest.mark.skipif(NEWEST_OPSET < 28, reason="this onnx cannot make a model of opset 28")
def test_an_opset_that_is_too_new_is_converted(tmp_path: Path) -> None:
    session, notes = opened(saved(tmp_path, relu(28, 8)))
    assert [note.partition(" was converted to ")[0] for note in notes] == ["its opset 28"]
    assert answer(session, X) == [[1, 0, 3, 0]]


@pytest.mark.parametrize(("opset", "ir_version"), [(17, TOO_NEW_IR), (NEWEST_OPSET, TOO_NEW_IR)])
def test_weights_beside_a_mended_model_are_found(tmp_path: Path, opset: int, ir_version: int) -> None:
    file = tmp_path / "my models" / "model.onnx"
    onnx_models.save_externally(onnx_models.with_external_data(4, opset, ir_version), file)
    session, notes = opened(file)
    assert notes
    assert answer(session, X) == [[1, -1, 5, -1]]


def text_model(wanted_locale: str) -> onnx.ModelProto:
    node = helper.make_node(
        "StringNormalizer", ["x"], ["y"], locale=wanted_locale, case_change_action="UPPER", is_case_sensitive=1
    )
    return onnx_models.model(
        [node],
        [("x", TensorProto.STRING, ["n"])],
        [("y", TensorProto.STRING, ["n"])],
    )


def can_set(name: str) -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return True


@pytest.mark.skipif(not can_set("C.UTF-8"), reason="this system has no locale C.UTF-8 to use instead")
def test_a_locale_that_is_not_here_is_replaced(tmp_path: Path) -> None:
    session, notes = opened(saved(tmp_path, text_model("xx_XX.UTF-8")))
    assert notes == ("its locale xx_XX.UTF-8 was replaced by C.UTF-8",)
    words = np.array([b"Ab", "straße".encode(), b"\xff"], object)
    assert session.run({"x": words}, ["y"])[0].tolist() == [b"AB", "STRAßE".encode(), b"\xff"]


@pytest.mark.skipif(not can_set("C.UTF-8"), reason="this system has no locale C.UTF-8 to use instead")
def test_a_model_may_need_all_mendings(tmp_path: Path) -> None:
    proto = text_model("xx_XX.UTF-8")
    proto.ir_version = TOO_NEW_IR
    proto.opset_import[0].version = NEWEST_OPSET
    session, notes = opened(saved(tmp_path, proto))
    assert len(notes) >= 2
    assert session.run({"x": np.array([b"ab"], object)}, ["y"])[0].tolist() == [b"AB"]


def test_an_opset_that_nothing_can_convert_is_refused_saying_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoadable) as refusal:
        opened(saved(tmp_path, relu(999, 8)))
    assert "cannot load model 'm': ONNX Runtime only *guarantees* support" in refusal.value.message
    assert "It cannot be converted to opset" in refusal.value.message
    assert "/" not in refusal.value.message.replace("and/or", "")


@pytest.mark.parametrize("content", [b"", b"garbage", relu(17, 8).SerializeToString()[:-20]])
def test_what_is_no_model_is_refused_as_before(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelNotLoadable, match="ONNX Runtime cannot load model 'm': "):
        opened(tmp_path / "model.onnx")


def test_an_unknown_operator_is_not_mended(tmp_path: Path) -> None:
    proto = relu(17, 8)
    proto.graph.node[0].op_type = "Frobnicate"
    with pytest.raises(ModelNotLoadable, match="No Op registered for Frobnicate"):
        opened(saved(tmp_path, proto))


def test_an_unknown_operator_behind_what_was_mended_is_still_refused(tmp_path: Path) -> None:
    proto = relu(17, TOO_NEW_IR)
    proto.graph.node[0].op_type = "Frobnicate"
    with pytest.raises(ModelNotLoadable, match="No Op registered for Frobnicate"):
        opened(saved(tmp_path, proto))
