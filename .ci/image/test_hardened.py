"""How the image serves with a read-only root, without capabilities, and in 512 MiB."""

import json
from pathlib import Path

import callers
import grpc
import numpy as np
from built_image import Image, Say
from containers import IRIS, MEMORY_BYTES, NO_NETWORK, Container, container
from server_process import eventually
from workshop import Workshop

from ortolan.protocol import protobuf_messages as messages

USER = "10001"


def test_it_answers_over_rest(served: Container) -> None:
    assert served.ask("POST", "/v2/models/iris/infer", IRIS).json["outputs"][0]["data"] == ["versicolor"]


def test_it_answers_over_grpc(served: Container) -> None:
    request = callers.grpc_request("iris", np.array([[6.7, 3.1, 4.4, 1.4]], np.float32), name="features")
    with grpc.insecure_channel(served.grpc) as channel:
        answer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(request, timeout=60)
    assert b"versicolor" in messages.ModelInferResponse.FromString(answer).raw_output_contents[0]


def test_its_documentation_works_without_another_host(served: Container) -> None:
    page = served.ask("GET", "/docs")
    assert (page.status, b"https://" in page.body) == (200, False)


def test_it_is_nobody_and_may_do_nothing(served: Container) -> None:
    lines = served.python("print(open('/proc/1/status').read())").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"] == status["Gid"] == [USER] * 4
    assert {status[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]


def test_only_tmp_can_be_written(served: Container) -> None:
    program = (
        "import os\n"
        "def can_write(path):\n"
        "    try:\n"
        "        os.close(os.open(path + '/probe', os.O_CREAT | os.O_WRONLY)); os.remove(path + '/probe')\n"
        "    except OSError:\n"
        "        return False\n"
        "    return True\n"
        "print(*filter(can_write, ('/', '/etc', '/opt/ortolan', '/usr', '/var', '/models', '/tmp')))"
    )
    assert served.python(program) == "/tmp"


def test_it_lives_on_when_a_request_wants_more_memory_than_there_is(served: Container, say: Say) -> None:
    used = served.memory()
    shown = (f"{name} {size / (1 << 20):.0f} MiB" for name, size in used.items())
    say(f"in memory of 512 MiB, serving the example models: {', '.join(shown)}")
    assert sum(used.values()) < MEMORY_BYTES / 2
    reply = served.ask("POST", "/v2/models/large/infer", callers.rest_body(np.full((1, 4), 2048, np.float32)))
    assert (reply.status, "no 2 GiB left" in reply.json["error"]) == (503, True)
    assert served.is_ready()
    assert not served.inspected()["State"]["OOMKilled"]


def test_its_memory_limit_follows_the_cgroups(served: Container) -> None:
    """RLIMIT_DATA is 90% of the limit and what was asked for without being used, and far less than the machine has."""
    program = "print(next(l.split()[3] for l in open('/proc/1/limits') if l.startswith('Max data size')))"
    assert 0.9 * MEMORY_BYTES <= int(served.python(program)) < 3 * MEMORY_BYTES


def test_it_asks_nobody_outside(workshop: Workshop, image: Image, models: Path) -> None:
    """Counted by the kernel, in a network that leads nowhere: who wants to go elsewhere finds no route."""
    with container(workshop, image.tag, models, [NO_NETWORK]) as server:
        eventually(server.is_healthy, within_s=90)
        ask = (
            "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000);"
            f"c.request('POST', '/v2/models/iris/infer', {json.dumps(IRIS)!r}); print(c.getresponse().status)"
        )
        assert server.python(ask) == "200"
        # ONNX Runtime keeps what it is about to send there; ours are compiled models.
        assert server.python("import os; print(*os.listdir('/tmp/.cache'))") == "ortolan"
        assert without_route(server.pid) == 0
        server.python("import socket; socket.socket().connect_ex(('192.0.2.1', 443))")
        assert without_route(server.pid) == 1, "what is looked for here is not counted by this kernel"


def without_route(pid: int) -> int:
    """How often somebody in the network of that process wanted to go where no route leads, by IPv4 or IPv6."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    fours = dict(zip(*lines, strict=True))
    sixes = dict(line.split() for line in Path(f"/proc/{pid}/net/snmp6").read_text().splitlines())
    return int(fours["OutNoRoutes"]) + int(sixes["Ip6OutNoRoutes"])
