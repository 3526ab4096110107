import argparse
from collections.abc import Sequence

import pytest

from ortolan.errors import StartupError
from ortolan.hosting.runtime_flags import add_runtime_flags, hyphenated, with_ports


def parsed(*arguments: str) -> dict[str, object]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_runtime_flags(parser)
    return with_ports(vars(parser.parse_args(hyphenated(arguments))))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["serve", "--model_name=a_b"], ["serve", "--model-name=a_b"]),
        (["serve", "--http_port", "1"], ["serve", "--http-port", "1"]),
        (["serve", "/a_b", "--", "--c_d"], ["serve", "/a_b", "--", "--c_d"]),
        (["serve", "-x_y"], ["serve", "-x_y"]),
        ([], []),
    ],
)
def test_flags_may_be_spelt_with_underscores(given: Sequence[str], expected: Sequence[str]) -> None:
    assert hyphenated(given) == expected


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        # KServe's Python servers
        (["--model_dir=/mnt/models", "--workers=2", "--enable_grpc=false"], {"allow_grpc": "false"}),
        # OpenVINO Model Server
        (["--model_path=/mnt/models", "--port=9000", "--rest_port=8080"], {"grpc_port": "9000", "http_port": "8080"}),
        (["--model-path", "/mnt/models", "--file_system_poll_wait_seconds=0"], {}),
        (
            ["--model_path=/mnt/models", "--file_system_poll_wait_seconds", "3"],
            {"model_control_mode": "poll", "repository_poll_secs": "3"},
        ),
        (
            ["--model_path=/mnt/models", "--grpc_bind_address=::1", "--rest_bind_address=127.0.0.1"],
            {"grpc_address": "::1", "http_address": "127.0.0.1"},
        ),
        # TensorFlow Serving
        (
            ["--port=9000", "--rest_api_port=8080", "--model_base_path=/mnt/models", "--rest_api_timeout_in_ms=60000"],
            {"grpc_port": "9000", "http_port": "8080"},
        ),
    ],
)
def test_what_kserves_runtimes_are_told_is_understood(arguments: Sequence[str], flags: dict[str, object]) -> None:
    assert parsed(*arguments) == {"model_repository": ["/mnt/models"], **flags}


def test_a_port_alone_is_not_guessed_at() -> None:
    with pytest.raises(StartupError, match="say --http-port or --grpc-port"):
        parsed("--port=9000")


@pytest.mark.parametrize("flag", ["--predictor_host=iris", "--predictor-protocol=v2"])
def test_a_transformers_flags_are_refused(flag: str) -> None:
    with pytest.raises(StartupError, match="is for a transformer"):
        parsed(flag)


def test_what_has_no_effect_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed("--max_threads=4", "--nthread", "2") == {}
    assert capsys.readouterr().err.splitlines() == [
        "ortolan: --max-threads has no effect in this server",
        "ortolan: --nthread has no effect in this server",
    ]
