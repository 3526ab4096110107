"""What ONNX Runtime says, without the paths of its build and of this machine."""

import pytest

from ortolan.execution.runtime_errors import missing_memory, readable


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid output name:q", "Invalid output name:q"),
        (
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /srv/my models/m/1/model.onnx failed:"
            "Protobuf parsing failed.",
            "Protobuf parsing failed.",
        ),
        (  # of a model that it was given in memory
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Failed to load model because protobuf parsing failed.",
            "Protobuf parsing failed.",
        ),
        (  # a source file, a signature and a sentence
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /srv/m.onnx failed:/onnxruntime_src/onnxruntime/core/"
            "graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&) "
            "Unsupported model IR version: 14, max supported IR version: 13\n",
            "Unsupported model IR version: 14, max supported IR version: 13",
        ),
        (  # a lambda has no closing parenthesis at its end
            "Exception during initialization: /onnxruntime_src/onnxruntime/core/providers/cpu/text/string_normalizer.cc"
            ":235 onnxruntime::StringNormalizer::Locale::Locale(const std::string&)::<lambda()> Failed to construct "
            "locale with name:en_US.UTF-8",
            "Exception during initialization: Failed to construct locale with name:en_US.UTF-8",
        ),
        (  # a condition that did not hold
            "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:84 onnxruntime::"
            "ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) size != 0 && (input_shape_size % size)"
            " == 0 was false. The input tensor cannot be reshaped. Input shape:{1,4}, requested shape:{-1,3}\n",
            "Status Message: The input tensor cannot be reshaped. Input shape:{1,4}, requested shape:{-1,3}",
        ),
        (  # newer versions name the bare file and function
            "Error: tensorprotoutils.cc:461 ValidateExternalDataPathFromDir External data path does not exist: "
            '"/srv/models/weights.bin"',
            'Error: External data path does not exist: "…"',
        ),
        ("Tensor w failed.tensorprotoutils.cc:1876 Get External data", "Tensor w failed. External data"),
        ("it lies in C:\\models\\m\\model.onnx there", "it lies in … there"),
        ("path: '../../secret/w.bin'", "path: '…'"),
        ("Failed to load library libfoo.so", "Failed to load library libfoo.so"),
        ("shape {1,4} and 3/4 of it, and/or more", "shape {1,4} and 3/4 of it, and/or more"),
        (  # a node's name may look like a path and says where to look
            "while running Reshape node. Name:'/layer1/sub/Reshape' Status",
            "while running Reshape node. Name:'/layer1/sub/Reshape' Status",
        ),
        ("two\nlines  and   spaces\t", "two lines and spaces"),
    ],
)
def test_a_message_keeps_what_helps(said: str, shown: str) -> None:
    assert readable(RuntimeError(said)) == shown


@pytest.mark.parametrize(
    "folder", ["/srv/my models (old)/a", "/srv/a  b", "C:\\Users\\An Other\\m", "/m", "relative dir"]
)
def test_a_path_that_the_caller_knows_is_hidden_however_it_is_spelt(folder: str) -> None:
    shown = readable(RuntimeError(f"cannot open '{folder}/1/model.onnx' in {folder}"), [folder, ""])
    assert folder not in shown
    assert shown.startswith("cannot open '…")
    assert shown.endswith("in …")


def test_the_longer_of_two_paths_goes_first() -> None:
    assert readable(RuntimeError("/a b/c d is not there"), ["/a b", "/a b/c d"]) == "… is not there"


def test_a_message_is_never_empty_and_never_endless() -> None:
    assert readable(KeyError()) == "KeyError"
    assert readable(RuntimeError("[ONNXRuntimeError] : 1 : FAIL : ")) == "RuntimeError"
    assert len(readable(RuntimeError("x" * 10_000))) == 600


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (
            RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running ConstantOfShape node. "
                "Name:'' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* "
                "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate "
                "memory for requested buffer of size 4294967296"
            ),
            "4 GiB",
        ),
        (RuntimeError("Failed to allocate memory for requested buffer of size 1200"), "1.172 KiB"),
        (RuntimeError("Failed to allocate memory for requested buffer of size 9223372036854775808"), "8192 PiB"),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : … Status Message: std::bad_alloc"), "memory"),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=h"), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("indices element out of data bounds"), None),
    ],
)
def test_an_error_tells_whether_there_was_no_memory(error: Exception, missing: str | None) -> None:
    assert missing_memory(error) == missing
