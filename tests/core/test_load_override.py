"""The parameters of loads and unloads as tables: what they ask for, and which are refused by name."""

from collections.abc import Mapping

import pytest

from ortolan.core.load_override import LoadOverride, check_unload, load_override, refuse_server_files
from ortolan.errors import InvalidArgument
from ortolan.repository.config_file import parse_text

FILE = "file:1/model.onnx"


@pytest.mark.parametrize(
    ("parameters", "override"),
    [
        ({}, None),
        ({"config": "{}"}, LoadOverride("{}")),
        ({"config": "{}", FILE: b"x"}, LoadOverride("{}", {"1/model.onnx": b"x"})),
        # Parameters come in no order.
        (
            {FILE: b"", "config": "{}", "file:labels.txt": b"a"},
            LoadOverride("{}", {"1/model.onnx": b"", "labels.txt": b"a"}),
        ),
        (
            {"config": "{}", "file:1/...": b"", "file:..m/m..1": b""},
            LoadOverride("{}", {"1/...": b"", "..m/m..1": b""}),
        ),
        ({"config": "{}", f"file:{'ä' * 127}": b""}, LoadOverride("{}", {"ä" * 127: b""})),
    ],
)
def test_what_may_be_sent_is_what_is_loaded(parameters: Mapping[str, object], override: LoadOverride | None) -> None:
    assert load_override(parameters) == override


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({FILE: b"x"}, "load parameter 'config' is required when files are given"),
        ({"config": ""}, "load parameter 'config' is empty"),
        ({"config": " \n"}, "load parameter 'config' is empty"),
        ({"config": b"{}"}, "load parameter 'config' expects the JSON text of a configuration, got bytes"),
        ({"config": {"max_batch_size": 8}}, "got an object or array"),
        ({"config": None}, "got nothing"),
        ({"config": True}, "got a boolean"),
        ({"config": "x" * 5_000_000}, "load parameter 'config' is longer than 4194304 characters"),
        (
            {"config": "{}", FILE: "eA=="},
            f"load parameter '{FILE}' expects the file's content, as base64 text over HTTP",
        ),
        ({"config": "{}", FILE: 7}, "got a number"),
        (
            {"config": "{}", "files:1/model.onnx": b""},
            "unknown load parameter 'files:1/model.onnx'; known are 'config'",
        ),
        ({"Config": "{}"}, "unknown load parameter 'Config'"),
        ({"unload_dependents": True}, "unknown load parameter 'unload_dependents'"),
        ({"a\nb": ""}, r"unknown load parameter 'a\nb'"),
        ({"config": "{}", "file:1": b"", FILE: b""}, "load parameter 'file:1' names a file, and another parameter a"),
        ({"config": "{}", "file:a/b/c": b"", "file:a": b""}, "load parameter 'file:a' names a file"),
    ],
)
def test_what_may_not_be_sent_is_refused_by_name(parameters: Mapping[str, object], words: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        load_override(parameters)
    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../../root/.bashrc", "inside the model's directory"),
        ("..", "inside"),
        ("1/../../m", "inside"),
        ("1/..", "inside"),
        ("/etc/passwd", "inside"),
        ("//etc/passwd", "inside"),
        ("C:/windows", "inside"),
        ("C:windows", "inside"),
        ("1\\model.onnx", "inside"),
        ("..\\m", "inside"),
        ("1/m\0", "inside"),
        ("1/m\n", "inside"),
        ("", "inside"),
        (".", "inside"),
        ("./1/model.onnx", "inside"),
        ("1//model.onnx", "inside"),
        ("1/./model.onnx", "inside"),
        ("1/", "inside"),
        ("x" * 256, "the path is too long"),
        ("1/" + "ä" * 128, "the path is too long"),
        ("/".join("x" * 600), "the path is too long"),
        ("/".join("x" * 17), "the path has 17 parts, at most 16 are accepted"),
    ],
)
def test_a_file_stays_inside_the_models_directory(path: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        load_override({"config": "{}", f"file:{path}": b""})
    assert refusal.value.message.startswith("load parameter 'file:")
    assert words in refusal.value.message
    assert len(refusal.value.message) < 400
    assert refusal.value.message.isprintable()


def test_a_load_brings_so_many_files_at_most() -> None:
    files = {f"file:1/{number}": b"" for number in range(1000)}
    assert load_override({"config": "{}", **files}) is not None
    with pytest.raises(InvalidArgument, match="a load brings 1001 files, at most 1000 are accepted"):
        load_override({"config": "{}", **files, "file:x": b""})
    deepest = "/".join("x" * 16)
    assert load_override({"config": "{}", f"file:{deepest}": b""}) is not None


@pytest.mark.parametrize("parameters", [{}, {"unload_dependents": True}, {"unload_dependents": False}])
def test_an_unload_may_ask_for_dependents(parameters: Mapping[str, object]) -> None:
    check_unload(parameters)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"unload_dependents": "true"}, "unload parameter 'unload_dependents' expects true or false, got a string"),
        ({"unload_dependents": 1}, "got a number"),
        ({"unload_dependents": None}, "got nothing"),
        ({"dependents": True}, "unknown unload parameter 'dependents'; known are 'unload_dependents'"),
        ({"config": "{}"}, "unknown unload parameter 'config'"),
    ],
)
def test_what_an_unload_does_not_take_is_refused_by_name(parameters: Mapping[str, object], words: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check_unload(parameters)
    assert words in refusal.value.message


LIBRARY = 'model_operations { op_library_filename: "/opt/ops.so" } '
PLUGIN = """optimization { execution_accelerators { gpu_execution_accelerator {
    name: "tensorrt" parameters { key: "%s" value: "/opt/x" } } } } """
PLUGINS = PLUGIN % "extra_plugin_lib_paths"


@pytest.mark.parametrize(
    ("sent", "own"),
    [
        ("max_batch_size: 8", None),
        (PLUGIN % "precision_mode", None),
        (LIBRARY, LIBRARY),
        (LIBRARY + PLUGINS, LIBRARY + PLUGINS),
        ("max_batch_size: 8", LIBRARY),
    ],
)
def test_what_the_model_has_on_disk_may_be_repeated(sent: str, own: str | None) -> None:
    refuse_server_files(parse_text(sent, "m"), None if own is None else parse_text(own, "m"))


@pytest.mark.parametrize(
    ("sent", "own", "words"),
    [
        (LIBRARY, None, "model_operations.op_library_filename '/opt/ops.so' names a file of the server"),
        (LIBRARY, "", "op_library_filename"),
        (LIBRARY.replace("ops", "others"), LIBRARY, "'/opt/others.so'"),
        (PLUGINS, LIBRARY, "option 'extra_plugin_lib_paths' of accelerator 'tensorrt' may only be set by"),
        (PLUGIN % "engine_cache_path", None, "engine_cache_path"),
        (PLUGIN % "trt_timing_cache_path", None, "trt_timing_cache_path"),
        (PLUGIN % "trt_timing_cache_enable", None, "Clients may send arena_extend_strategy, "),
        (PLUGIN % "trt_engine_cache_enable", None, "trt_engine_cache_enable"),
        (PLUGIN % "trt_dump_subgraphs", None, "trt_dump_subgraphs"),
        (PLUGIN % "of_a_later_runtime", None, "of_a_later_runtime"),
        (PLUGINS, PLUGINS.replace("/opt/x", "/opt/y"), "extra_plugin_lib_paths"),
        (PLUGIN % "cache_dir", None, "cache_dir"),
        (PLUGIN % "ModelCacheDirectory", None, "ModelCacheDirectory"),
        (PLUGIN % "int8_calibration_table_name", None, "int8_calibration_table_name"),
    ],
)
def test_a_client_may_not_name_other_files_of_the_server(sent: str, own: str | None, words: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        refuse_server_files(parse_text(sent, "m"), None if own is None else parse_text(own, "m"))
    assert words in refusal.value.message
