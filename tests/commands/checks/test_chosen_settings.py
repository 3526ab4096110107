import socket
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from certificates import Authority

from ortolan.commands.checks import chosen_settings
from ortolan.commands.checks.finding import Level
from ortolan.settings import Settings, read_settings

DAY_S = 86_400.0


def settings(**flags: object) -> Settings:
    return read_settings(flags, {})


def test_each_port_is_free_or_named_with_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        findings = chosen_settings.ports(settings(http_port="0", grpc_port=str(port), metrics_port="0"))
    assert [(each.subject, each.level) for each in findings] == [
        ("http port", Level.OK),
        ("grpc port", Level.BROKEN),
        ("metrics port", Level.OK),
    ]
    assert f"127.0.0.1:{port}" in findings[1].text
    assert "--grpc-port" in findings[1].remedy


def test_beside_a_server_of_another_kind_ports_that_are_taken_stay_faults() -> None:
    # Answers 501 to all.
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other, socket.create_server(("127.0.0.1", 0)) as taken:
        Thread(target=other.handle_request, daemon=True).start()
        ports = {"http_port": str(other.server_port), "grpc_port": str(taken.getsockname()[1])}
        findings = chosen_settings.ports(settings(**ports, metrics_port="0"))
    assert [each.level for each in findings] == [Level.BROKEN, Level.BROKEN, Level.OK]


def test_ports_that_are_not_opened_are_not_looked_at() -> None:
    found = chosen_settings.ports(settings(allow_grpc="false", allow_metrics="false", http_port="0"))
    assert [each.subject for each in found] == ["http port"]


@pytest.mark.parametrize(
    ("to_days", "level", "said"),
    [(100, Level.OK, "of use until"), (5, Level.WARNING, "expires in"), (0.5, Level.WARNING, "less than a day")],
)
def test_certificates_are_told_before_they_expire(tmp_path: Path, to_days: float, level: Level, said: str) -> None:
    own = Authority(tmp_path).server(to_days=to_days)
    chosen = settings(tls_certificate=str(own.certificate), tls_key=str(own.key))
    (finding,) = chosen_settings.tls(chosen, time.time())
    assert finding.level is level
    assert said in finding.text


def test_files_of_tls_that_do_not_fit_are_broken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    chosen = settings(tls_certificate=str(authority.server().certificate), tls_key=str(authority.client().key))
    (finding,) = chosen_settings.tls(chosen, time.time())
    assert finding.level is Level.BROKEN
    assert "--tls-" in finding.text
    expired = authority.server("expired", from_days=-9, to_days=-1)
    (finding,) = chosen_settings.tls(
        settings(tls_certificate=str(expired.certificate), tls_key=str(expired.key)), time.time()
    )
    assert finding.level is Level.BROKEN


def test_caches_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "cache")
    found = chosen_settings.directories(settings(calibration_cache=place, compiled_cache_directory="off"))
    assert [(each.level, "--calibration-cache" in each.text) for each in found] == [(Level.WARNING, True)]
    fine = settings(calibration_cache=str(tmp_path / "a" / "b"), compiled_cache_directory=str(tmp_path))
    assert [each.level for each in chosen_settings.directories(fine)] == [Level.OK]


@pytest.mark.parametrize(
    ("flags", "environment", "extras"),
    [
        ({}, {}, []),
        ({"model_repository": ["s3://bucket/models"]}, {}, ["s3://bucket/models"]),
        ({"model_key_file": ["k"]}, {}, ["--model-key-file"]),
        ({}, {"ORTOLAN_MODEL_KEY": "x"}, ["ORTOLAN_MODEL_KEY"]),
        ({"model_signature": "require", "model_signature_key": ["k"]}, {}, ["--model-signature"]),
        ({"jwt_issuer": "https://a", "jwt_audience": "b"}, {}, ["--jwt-issuer"]),
    ],
)
def test_packages_are_asked_for_by_what_needs_them(
    flags: dict[str, object], environment: dict[str, str], extras: list[str]
) -> None:
    found = chosen_settings.extras(settings(**flags), environment)
    assert [each.text.split(":")[0] if "://" not in each.text else extras[0] for each in found] == extras


def test_a_variable_with_a_wrong_name_is_told() -> None:
    (finding,) = chosen_settings.misspelt({"ORTOLAN_HTTP_PROT": "9000"})
    assert finding.level is Level.WARNING
    assert "ORTOLAN_HTTP_PORT" in finding.text
