import json
import os
import subprocess
import sys
from pathlib import Path

import onnx_models
import pytest
from server_process import command, finished

from ortolan import __version__
from ortolan.cli import main

NOWHERE = "/nowhere/at/all"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    onnx_models.save_version(root, "double", onnx_models.doubler())
    onnx_models.save_version(root, "single", onnx_models.doubler(), config="max_batch_size: 1")
    return root


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "say what to serve: ortolan serve PATH"),
        (["models"], "say what to serve: ortolan models PATH"),
        (["config"], "say what to serve: ortolan config PATH"),
        (["serve", "s3://bucket/../models"], "its path has a part that is empty, '.' or '..'"),
        (["models", "--model-repository=gs://"], "gs://"),
        (["serve", NOWHERE], f"the model repository '{NOWHERE}' does not exist"),
        (["models", NOWHERE], f"the model repository '{NOWHERE}' does not exist"),
        (["serve", NOWHERE, "--http-prot=1"], "unknown flag --http-prot; did you mean --http-port?"),
        (["serve", NOWHERE, "--http_prot=1"], "unknown flag --http-prot; did you mean --http-port?"),
        (["serve", NOWHERE, "--model-repositry", "x"], "--model-repositry; did you mean --model-repository?"),
        (["serve", NOWHERE, "--http"], "unknown flag --http; did you mean"),  # no abbreviations
        (["serve", NOWHERE, "--zzzzzz=1"], "unknown flag --zzzzzz\n"),
        (["models", NOWHERE, "-x"], "unknown flag -x"),
        (["version", "--verbos"], "unknown flag --verbos"),
        (["version", "extra"], "unexpected argument 'extra'"),
        (["serve", NOWHERE, "--http-port", "0", "other"], "unexpected argument 'other'"),
        (["serve", NOWHERE, "--log-infos=1"], "unknown flag --log-infos"),
        (["serve", NOWHERE, "--http-port=x"], "--http-port (ORTOLAN_HTTP_PORT): "),
        (["serve", NOWHERE, "--strict-readiness", "x"], "--strict-readiness (ORTOLAN_STRICT_READINESS): "),
        (["serve", NOWHERE, "--trace-rate=x"], "--trace-config: Unable to parse 'rate', got: x"),
        (["serve", NOWHERE, "--trace-config=mode=zipkin"], "--trace-config: unknown mode 'zipkin'"),
        (["serve", NOWHERE, "--trace-config=triton,file=/nowhere/t"], "--trace-config triton,file: cannot write to"),
        (["models", NOWHERE, "--log-file=/nowhere/l"], "--log-file (ORTOLAN_LOG_FILE): cannot write to '/nowhere/l'"),
        (["serve", NOWHERE, "--load-model=a"], "--load-model needs --model-control-mode=explicit"),
        (["serve", NOWHERE, "--grpc-use-ssl"], "need --grpc-server-cert and --grpc-server-key"),
        (["serve", NOWHERE, "--backend-config=default-max-batch-size=x"], "--default-max-batch-size (ORTOLAN_"),
        (["serve", "x" * 300], "File name too long"),
    ],
)
def test_what_is_wrong_with_a_command_line_is_said_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("ortolan: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [[], ["sevre"], ["serve", "--http-port"], ["--help=1"]])
def test_what_is_no_command_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: ortolan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["serve", "models", "config", "version"]),
        (["serve", "--help"], ["--http-port PORT", "ORTOLAN_HTTP_PORT", "default: 8000", "--model-store"]),
    ],
)
def test_help_shows_what_there_is(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)
    assert "--backend-directory" not in printed


@pytest.mark.parametrize(
    "flags",
    [
        ["--reuse-http-port=1", "{}"],
        ["--reuse-http-port", "1", "{}"],
        ["{}", "--reuse-http-port", "1"],
        ["{}", "--reuse-http-port"],
        ["--reuse-http-port", "true", "--model-store", "{}"],
        ["--reuse-http-port=1", "--backend-config=onnxruntime,a=b", "{}"],
        ["--reuse-http-port=1", "--log-format=ISO8601", "{}"],
        ["--reuse-http-port=1", "--trace-config", "level=OFF", "--grpc-use-ssl=false", "{}"],
    ],
)
def test_flags_of_triton_without_effect_take_their_value_and_get_a_word(
    flags: list[str], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *(flag.format(repository) for flag in flags)]) == 0
    printed = capsys.readouterr()
    assert "ortolan: --reuse-http-port has no effect in this server\n" in printed.err
    assert "  double  version 1" in printed.out


@pytest.mark.parametrize("config", ["default-max-batch-size=8", "onnxruntime,default-max-batch-size=8"])
def test_a_backends_default_batch_size_is_ours(
    config: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", str(repository), f"--backend-config={config}"]) == 0
    printed = capsys.readouterr()
    assert "batches of up to 8 rows" in printed.out
    assert "no effect" not in printed.err


def test_what_is_said_of_the_backend_beats_what_is_said_of_all(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--backend-config=onnxruntime,default-max-batch-size=8", "--backend-config=default-max-batch-size=2"]
    for given in (flags, flags[::-1]):
        assert main(["models", str(repository), *given]) == 0
        assert "batches of up to 8 rows" in capsys.readouterr().out


def test_the_setting_of_another_backend_is_named_and_has_no_effect(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", str(repository), "--backend-config=python,default-max-batch-size=8"]) == 0
    printed = capsys.readouterr()
    assert "--backend-config=python,default-max-batch-size=8 has no effect in this server" in printed.err
    assert "batches of up to 4 rows" in printed.out


def test_strict_model_config_refuses_what_is_not_complete(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(repository), "--strict-model-config=true"]) == 1
    assert "must specify its inputs and outputs" in capsys.readouterr().out


def test_version_prints_ours_and_onnx_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    assert main(["version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ortolan {__version__}"
    assert lines[1].startswith(f"onnxruntime {onnxruntime.__version__} (")
    assert "CPUExecutionProvider" in lines[1]
    assert "Azure" not in lines[1]


def test_version_is_a_flag_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"ortolan {__version__}\n")


def test_models_prints_what_would_be_served_and_how(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(repository)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["double", "version", "1"], ["single", "version", "1"]]
    assert "batches of up to 4 rows" in lines[0]
    assert "one request at a time" in lines[1]
    assert all(line == line.rstrip() for line in lines)


def test_how_large_batches_may_be_and_how_large_they_get_agree(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_models.save_version(repository, "unsafe", onnx_models.centred(), config="max_batch_size: 8")
    assert main(["models", str(repository), "--explain"]) == 0
    printed = capsys.readouterr().out
    table = {line.split()[0]: line for line in printed.split("\n\n")[0].splitlines()}
    explained = {part.split()[0]: part for part in printed.split("\n\n")[1:]}
    assert "batches of up to 4 rows" in table["double"]
    assert "up to 4 rows, which is max_batch_size" in explained["double"] or "allows 4:" in explained["double"]
    assert "one request of up to 8 rows at a time" in table["unsafe"]
    assert "not batched across requests" in explained["unsafe"]


def test_models_prints_what_would_not_be_served_and_why(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"nonsense")
    assert main(["models", str(repository)]) == 1
    printed = capsys.readouterr().out
    assert "  double  version 1" in printed
    assert "  broken  NOT SERVED: version 1 is at UNAVAILABLE state: ONNX Runtime cannot load model 'broken'" in printed


@pytest.mark.parametrize(
    ("path", "flags", "expected"),
    [
        ("repository", [], ["double", "single"]),
        ("repository/double", [], ["double"]),
        ("repository/double", ["--model-name=twice"], ["twice"]),
        ("repository/double/1/model.onnx", ["--model-name", "twice"], ["twice"]),
        ("loose.onnx", [], ["loose"]),
        (".", [], ["loose"]),
    ],
)
def test_models_takes_the_three_kinds_of_path(
    repository: Path, path: str, flags: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_models.save(onnx_models.doubler(), repository.parent / "loose.onnx")
    assert main(["models", str(repository.parent / path), *flags]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == expected


def test_several_repositories_are_served_together(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_models.save_version(tmp_path / "other", "triple", onnx_models.doubler())
    assert main(["models", str(repository), "--model-repository", str(tmp_path / "other")]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["double", "single", "triple"]


def test_an_empty_repository_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "no models" in printed.out
    assert "is empty" in printed.err


def test_the_package_runs_as_a_module() -> None:
    done = finished("version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"ortolan {__version__}\n")


def test_config_prints_a_configuration_that_may_stand_in_the_models_directory(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", str(repository / "double")]) == 0
    text = capsys.readouterr().out
    assert 'name: "double"' in text
    assert "max_batch_size: 4" in text
    assert 'name: "x"' in text
    (repository / "double" / "config.pbtxt").write_text(text)
    assert main(["config", str(repository / "double")]) == 0
    assert capsys.readouterr().out == text


def test_config_prints_json_as_the_server_shows_it(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", str(repository / "double"), "--format", "json", "--default-max-batch-size=16"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["max_batch_size"]) == ("double", 16)
    assert shown["input"][0]["data_type"] == "TYPE_FP32"


def test_config_says_why_a_model_cannot_be_served(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "double" / "config.pbtxt").write_text("max_batch_sise: 8")
    assert main(["config", str(repository / "double")]) == 1
    printed = capsys.readouterr()
    assert "ortolan: model 'double' cannot be served: " in printed.err
    assert "max_batch_sise" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("config", "reason", "shown"),
    [
        (
            "instance_group { kind: KIND_GPU gpus: 5 }",
            "this server has no GPU",
            [
                "kind: KIND_GPU",
                "gpus: 5",
                "max_batch_size: 4",
                'name: "x"',
                "data_type: TYPE_FP32",
                "dynamic_batching {",
            ],
        ),
        # What does not fit the graph, or cannot be known of it, is shown as the file has it.
        (
            'max_batch_size: 8 input { name: "z" data_type: TYPE_FP32 dims: 4 }',
            "'z'",
            ["max_batch_size: 8", 'name: "z"'],
        ),
        ('max_batch_size: 8 default_model_filename: "b.onnx"', "no file 'b.onnx'", ["max_batch_size: 8", '"b.onnx"']),
    ],
)
def test_config_of_what_cannot_be_served_here_says_what_is_known_and_why(
    repository: Path, config: str, reason: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "double" / "config.pbtxt").write_text(config)
    assert main(["config", str(repository / "double"), "--device=cpu"]) == 1
    printed = capsys.readouterr()
    assert "ortolan: model 'double' cannot be served: " in printed.err
    assert reason in printed.err
    assert all(word in printed.out for word in shown), printed.out
    assert "ortolan:" not in printed.out


def test_config_leaves_out_the_size_that_nobody_asked_for(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = repository / "double" / "config.pbtxt"
    for asked, shown in (("", []), ("preferred_batch_size: 2", [2]), ("max_queue_delay_microseconds: 9", [4])):
        file.write_text(f"dynamic_batching {{ {asked} }}")
        assert main(["config", str(repository / "double"), "--format=json"]) == 0
        assert json.loads(capsys.readouterr().out)["dynamic_batching"]["preferred_batch_size"] == shown


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
@pytest.mark.parametrize("arguments", [["config", "{}/double"], ["models", "{}"], ["version"], ["serve", "--help"]])
def test_it_ends_quietly_when_nobody_reads_its_output(repository: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as output:
        line = command(*(argument.format(repository) for argument in arguments))
        done = subprocess.run(line, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    # argparse counts its own help as shown, whoever reads it.
    assert done.returncode == (0 if "--help" in arguments else 141)
    assert not any(word in done.stderr for word in ("Traceback", "BrokenPipe", "Broken pipe")), done.stderr


ENSEMBLE = """platform: "ensemble" input { name: "i" data_type: TYPE_FP32 dims: [ -1, 4 ] }
output { name: "o" data_type: TYPE_FP32 dims: [ -1, 4 ] } ensemble_scheduling { step {
  model_name: "double" input_map { key: "x" value: "i" } output_map { key: "y" value: "%s" } } }"""


def test_config_of_an_ensemble_is_checked_against_the_models_beside_it(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "both" / "1").mkdir(parents=True)
    file = repository / "both" / "config.pbtxt"
    file.write_text(ENSEMBLE % "o")
    assert main(["config", str(repository / "both")]) == 0
    text = capsys.readouterr().out
    assert 'name: "both"' in text
    file.write_text(text)
    assert main(["config", str(repository / "both")]) == 0
    assert capsys.readouterr().out == text
    file.write_text(ENSEMBLE % "other")
    assert main(["config", str(repository / "both")]) == 1
    assert "model 'both' cannot be served: " in capsys.readouterr().err


def test_config_of_a_bare_file_may_stand_in_the_directory_of_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_models.save(onnx_models.doubler(), tmp_path / "loose.onnx")
    assert main(["config", str(tmp_path / "loose.onnx")]) == 0
    text = capsys.readouterr().out
    onnx_models.save_version(tmp_path / "repository", "loose", onnx_models.doubler(), config=text)
    assert main(["config", str(tmp_path / "repository" / "loose")]) == 0
    assert capsys.readouterr().out == text


def test_config_takes_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        onnx_models.save_version(tmp_path, name, onnx_models.doubler())
    assert main(["config", str(tmp_path)]) == 2
    assert "takes the directory of one model; the models found are: a, b" in capsys.readouterr().err
