"""ONNX Runtime: which builds are installed, and what it says of providers and GPUs when it is asked."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ortolan.commands.checks.child import Ended, run
from ortolan.commands.checks.finding import Finding, broken, ok, warning
from ortolan.commands.checks.packages import is_within

SUBJECT = "onnxruntime"
_CPU_BUILD, _GPU_BUILD = "onnxruntime", "onnxruntime-gpu"
# All of them install the module onnxruntime.
_BUILDS = (_CPU_BUILD, _GPU_BUILD, "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-rocm")
_SUPPORTED = ">=1.23,<2"
_CPU_FIX, _GPU_FIX = 'pip install "ortolan[cpu]"', 'pip install "ortolan[gpu]"'
_TIMEOUT_S = 180.0
_PROBE = "ortolan.commands.checks.runtime_probe"
_LIBRARY = re.compile(r"(lib[\w.+-]+): cannot open shared object file")


def check(environment: Mapping[str, str]) -> list[Finding]:
    """The runtime and the devices."""
    builds = _builds()
    if wrong := wrong_builds(builds):
        return wrong
    gpus = _gpus(environment)
    ended = run(["-m", _PROBE, str(gpus)], environment, _TIMEOUT_S)
    return judged(builds, gpus, ended) + _telemetry(environment)


def wrong_builds(builds: Mapping[str, str]) -> list[Finding]:
    """What is wrong with the ``builds`` that are installed, by distribution, so that there is no use in asking one."""
    if not builds:
        return [broken(SUBJECT, "it is not installed", f"{_CPU_FIX}, or for NVIDIA GPUs {_GPU_FIX}")]
    if len(builds) > 1:
        names = " and ".join(f"{name} {version}" for name, version in builds.items())
        text = f"{names} are both installed, in one place: which of them runs is chance"
        fix = _GPU_FIX if _GPU_BUILD in builds else _CPU_FIX
        return [broken(SUBJECT, text, f"pip uninstall -y {' '.join(builds)} && {fix}")]
    return []


def judged(builds: Mapping[str, str], gpus: int, ended: Ended) -> list[Finding]:
    """What the probe told of the one build there is, on a machine with so many ``gpus``."""
    ((build, version),) = builds.items()
    told = _told(ended.out)
    again = f"install it anew: pip install --force-reinstall {build}"
    if "version" not in told:
        why = _last_line(ended.err) if ended.code else "it says no version"
        return [broken(SUBJECT, f"{build} {version} cannot be imported: {why or ended.how}", again)]
    if "providers" not in told:
        return [broken(SUBJECT, f"{build} {version} is not whole: {_last_line(ended.err) or ended.how}", again)]
    providers = [str(name).removesuffix("ExecutionProvider") for name in told["providers"]]
    text = f"{told['version']} ({build}), for {', '.join(providers)}"
    if not is_within(str(told["version"]), _SUPPORTED):
        return [broken(SUBJECT, f"{text} is not supported", f'pip install "{build}{_SUPPORTED}"')]
    if "cpu" not in told:
        why = _last_line(ended.err) or ended.how
        return [ok(SUBJECT, text), broken("devices", f"no model runs on the CPU: {why}", again)]
    return [ok(SUBJECT, text), _devices(providers, gpus, told, ended)]


def _devices(providers: Sequence[str], gpus: int, told: Mapping[str, Any], ended: Ended) -> Finding:
    if "CUDA" not in providers:
        if not gpus:
            return ok("devices", "the CPU")
        text = f"{gpus} GPU(s) are here, and this build runs on the CPU alone"
        return warning("devices", text, f"pip uninstall -y {_CPU_BUILD} && {_GPU_FIX}")
    if not gpus:
        text = "this build is for GPUs, and none is to be seen: models run on the CPU"
        return warning("devices", text, f"give the container or service a GPU, or take the smaller build: {_CPU_FIX}")
    if "CUDAExecutionProvider" in told.get("cuda", ()):
        return ok("devices", f"{gpus} GPU(s), by CUDA; the CPU")
    missing = sorted(set(_LIBRARY.findall(ended.err)))
    if missing:
        return broken("devices", f"CUDA does not start: {', '.join(missing)} cannot be found", f"{_GPU_FIX} has them")
    why = _last_line(ended.err) or ended.how
    return broken("devices", f"CUDA does not start: {why}", "compare the driver's version (nvidia-smi) with CUDA's")


def _telemetry(environment: Mapping[str, str]) -> list[Finding]:
    switch = environment.get("ORT_DISABLE_TELEMETRY", "1")
    if switch == "1":
        return [ok("telemetry", "ONNX Runtime sends nothing")]
    text = f"ORT_DISABLE_TELEMETRY={switch}: ONNX Runtime may send data of its use to its makers"
    return [warning("telemetry", text, "leave the variable out, or set it to 1")]


def _builds() -> dict[str, str]:
    found = {}
    for name in _BUILDS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _gpus(environment: Mapping[str, str]) -> int:
    try:
        from ortolan.execution.devices import count_gpus

        return count_gpus(environment.get("CUDA_VISIBLE_DEVICES"))
    # What it needs is not installed, which another check tells.
    except ImportError:
        return len([*Path("/dev").glob("nvidia[0-9]*")]) if sys.platform == "linux" else 0


def _told(out: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for line in out.splitlines():
        try:
            told |= json.loads(line)
        except (ValueError, TypeError):
            continue
    return told


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
