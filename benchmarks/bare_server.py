"""The floors of servers in Python: uvicorn and grpc.aio that answer every request with the same bytes.

Run as a program by ``bare_server``; the bytes come on standard input, the port goes to standard output.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ortolan.bench.load import Address, Form
from ortolan.bench.measured_server import Addresses
from ortolan.bench.process_usage import with_descendants


@contextmanager
def bare_server(form: Form, answer: bytes) -> Iterator[Addresses]:
    """A server for requests of ``form`` that answers ``answer`` to whatever comes."""
    command = [sys.executable, __file__, "grpc" if form is Form.GRPC else "http"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(answer)
        process.stdin.close()
        address = Address("127.0.0.1", int(process.stdout.readline()))
        yield Addresses("bare", address, address, with_descendants([process.pid]))
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()


def serve_http(answer: bytes) -> None:
    import uvicorn

    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}

    async def app(scope: object, receive: object, send: object) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(head)
        await send({"type": "http.response.body", "body": answer})

    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app, http="httptools", lifespan="off", access_log=False, log_level="error")
    uvicorn.Server(config).run([listening])


async def serve_grpc(answer: bytes) -> None:
    import grpc.aio

    async def infer(request: bytes, context: object) -> bytes:
        return answer

    methods = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    fixed = sys.stdin.buffer.read()
    if sys.argv[1] == "http":
        serve_http(fixed)
    else:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_grpc(fixed))
