"""Nothing leaves the machine: no telemetry, no file in the home directory, no connection to anywhere else."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from ipaddress import ip_address
from pathlib import Path

import pytest
import tritonclient.grpc
from server_process import ServerProcess, running

ROOT = Path(__file__).parents[2]
BODY = b'{"inputs":[{"name":"features","datatype":"FP32","shape":[1,4],"data":[6.7,3.1,4.4,1.4]}]}'


def use(server: ServerProcess) -> None:
    """A little of everything that a server is asked."""
    with urllib.request.urlopen(f"http://{server.http}/v2/models/iris/infer", BODY, timeout=30) as response:
        assert response.status == 200
    for address, path in ((server.http, "/docs"), (server.http, "/openapi.json"), (server.metrics, "/metrics")):
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as response:
            assert response.status == 200
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        assert client.is_server_ready()


# This process has imported ortolan, so that its own environment says already what the server's is to say by itself.
AS_ON_A_STRANGERS_MACHINE = ("env", "-u", "ORT_DISABLE_TELEMETRY", "-u", "XDG_CACHE_HOME", "-u", "XDG_DATA_HOME")


def test_telemetry_is_off_before_onnx_runtime_is_imported() -> None:
    program = (
        "import os, sys\n"
        "os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
        "import ortolan\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "import ortolan.execution.session\n"
        "assert 'onnxruntime' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_serving_leaves_nothing_in_the_home_directory_but_what_was_measured(tmp_path: Path) -> None:
    with running(ROOT / "model_repo", environment={"HOME": str(tmp_path)}, under=AS_ON_A_STRANGERS_MACHINE) as server:
        use(server)
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert {str(path.parent) for path in files} == {".cache/ortolan/calibration"}


def test_without_a_calibration_cache_serving_leaves_nothing_in_the_home_directory(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    path = ROOT / "model_repo"
    with running(path, "--calibration-cache=none", environment=home, under=AS_ON_A_STRANGERS_MACHINE) as server:
        use(server)
    assert [*tmp_path.rglob("*")] == []


def remote_addresses(pid: int) -> set[str]:
    """Where the TCP and UDP sockets of a process are connected to, from /proc."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor)):
            inodes.add(found[1])
    remotes = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if fields[9] in inodes:
                remotes.add(_address(fields[2].split(":")[0]))
    return remotes


def _address(text: str) -> str:
    """The kernel writes addresses as native 32-bit words."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    address = ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_here(address: str) -> bool:
    parsed = ip_address(address)
    return parsed.is_loopback or parsed.is_unspecified


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="no /proc here")
def test_a_serving_process_is_connected_to_this_machine_only() -> None:
    with (
        running(ROOT / "model_repo") as server,
        tritonclient.grpc.InferenceServerClient(server.grpc) as client,
    ):
        use(server)
        assert client.is_server_live()
        remotes = remote_addresses(server.process.pid)
    assert "127.0.0.1" in remotes, "the gRPC client's own connection was not seen"
    assert [address for address in remotes if not is_here(address)] == []


def _can_trace() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-qq", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_trace(), reason="strace is not installed, or may not trace here")
def test_from_start_to_end_no_other_machine_is_looked_up_or_spoken_to(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    # With -D the server is our own child, and strace its watcher; it gets the signals.
    under = [
        *AS_ON_A_STRANGERS_MACHINE,
        "strace",
        "-D",
        "-f",
        "-qq",
        "-e",
        "trace=connect,accept4,sendto,sendmsg,sendmmsg",
        "-o",
        str(trace),
    ]
    with running(ROOT / "model_repo", under=under) as server:
        use(server)
    assert "accept4(" in trace.read_text(), "the server's own connections were not seen"
    remotes = re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', trace.read_text())
    assert [address for pair in remotes if not is_here(address := pair[0] or pair[1])] == []
