"""docs/migration_from_triton.md: its flags are what the code does with them, its figures those of the benchmarks."""

import re

import documented_pages

from ortolan import triton_flags
from ortolan.commands.settings_flags import ALIASES
from ortolan.settings import Settings, flag_of

PAGE = documented_pages.text_of("docs/migration_from_triton.md")
ROWS = re.findall(r"^\| (`--[^|]*`) \| (same|other|none) \|", PAGE, re.MULTILINE)
FATES = {flag: fate for flags, fate in ROWS for flag in re.findall(r"`([^`]*)`", flags)}

# Of tritonserver --help, 2.51 to 2.60, but for what only says something (--help).
TRITON_FLAGS = (
    "log-verbose log-info log-warning log-error log-format log-file id model-store model-repository exit-on-error "
    "disable-auto-complete-config strict-model-config strict-readiness exit-timeout-secs model-control-mode "
    "repository-poll-secs load-model model-load-thread-count model-load-retry-count model-load-gpu-limit "
    "model-namespacing model-config-name enable-peer-access min-supported-compute-capability "
    "pinned-memory-pool-byte-size cuda-memory-pool-byte-size cuda-virtual-address-size "
    "buffer-manager-thread-count response-cache-byte-size cache-config cache-directory backend-directory "
    "backend-config repoagent-directory host-policy rate-limit rate-limit-resource allow-http http-address "
    "http-port reuse-http-port http-thread-count http-max-input-size http-header-forward-pattern "
    "http-restricted-api allow-grpc grpc-address grpc-port reuse-grpc-port grpc-infer-thread-count "
    "grpc-infer-allocation-pool-size grpc-max-response-pool-size grpc-use-ssl grpc-use-ssl-mutual "
    "grpc-server-cert grpc-server-key grpc-root-cert grpc-infer-response-compression-level grpc-keepalive-time "
    "grpc-keepalive-timeout grpc-keepalive-permit-without-calls grpc-http2-max-pings-without-data "
    "grpc-http2-min-recv-ping-interval-without-data grpc-http2-max-ping-strikes grpc-max-connection-age "
    "grpc-max-connection-age-grace grpc-header-forward-pattern grpc-restricted-protocol allow-metrics "
    "allow-gpu-metrics allow-cpu-metrics metrics-address metrics-port metrics-interval-ms metrics-config "
    "allow-client-shm trace-config trace-file trace-level trace-rate trace-count trace-log-frequency "
    "allow-sagemaker sagemaker-port sagemaker-safe-port-range sagemaker-thread-count allow-vertex-ai "
    "vertex-ai-port vertex-ai-thread-count vertex-ai-default-model"
).split()


def test_every_flag_of_tritons_is_told_and_none_twice() -> None:
    told = [flag for flags, _ in ROWS for flag in re.findall(r"`([^`]*)`", flags)]
    assert sorted(told) == sorted(f"--{name}" for name in TRITON_FLAGS)


def test_each_is_done_as_it_is_told() -> None:
    same = {*map(flag_of, Settings.model_fields), *(alias for aliases in ALIASES.values() for alias in aliases)}
    other = {*triton_flags.TRACE_FLAGS, *triton_flags.HTTP_PORTS, triton_flags.BACKEND_CONFIG}
    done = {"same": same, "other": other, "none": set(triton_flags.WITHOUT_EFFECT)}
    assert not [flag for flag, fate in FATES.items() if flag not in done[fate]]


def test_every_flag_that_is_taken_for_tritons_is_told() -> None:
    assert {*triton_flags.WITHOUT_EFFECT, *triton_flags.TRACE_FLAGS, *triton_flags.HTTP_PORTS} <= FATES.keys()


def test_figures_are_those_of_the_benchmarks() -> None:
    section = PAGE.partition("## How fast")[2].partition("\n## ")[0]
    measured = documented_pages.text_of("benchmarks/README.md")
    figures = re.findall(r"(?<![\d.])\d\.\d\d(?![\d.])", section)
    assert figures
    assert not [figure for figure in figures if figure not in measured]
