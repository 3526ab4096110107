"""Clients that are no gRPC library, where this machine has them: curl's and nghttp2's HTTP/2, and Node's gRPC."""

import asyncio
import shutil
from pathlib import Path

import pytest
from frontends.grpc_peers import MIB, framed, serving

from ortolan.frontends.grpc.options import GrpcOptions

LONGEST_S = 60.0
FIELDS = ("-H", "content-type: application/grpc", "-H", "te: trailers")
BODY = b"hello" * 100
NODE_CALLS = """
const grpc = require('@grpc/grpc-js'), same = bytes => bytes;
const client = new grpc.Client('127.0.0.1:' + process.argv[1], grpc.credentials.createInsecure());
const call = (method, body, more = {}) => new Promise(
  done => client.makeUnaryRequest(
    '/s/' + method, same, same, body, more, (error, answer) => done(error ? error.code : answer.length)));
(async () => {
  const sizes = [...Array(300).keys()].map(index => index * 37).concat(3000000);
  const lengths = await Promise.all(sizes.map(size => call('Echo', Buffer.alloc(size))));
  const stream = client.makeBidiStreamRequest('/s/Echoes', same, same);
  let answers = 0;
  stream.on('data', () => { answers++; answers < 20 ? stream.write(Buffer.alloc(1000)) : stream.end(); });
  stream.write(Buffer.alloc(500000));
  const ended = await new Promise(done => stream.on('status', status => done(status.code)));
  const soon = {deadline: Date.now() + 200};
  const codes = [await call('Nope', Buffer.alloc(5)), await call('Wait', Buffer.alloc(5), soon)];
  console.log(JSON.stringify([lengths.every((length, index) => length === sizes[index]), answers, ended, codes]));
  client.close();
})();
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


async def output(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(LONGEST_S):
            return (await process.communicate())[0]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def body(tmp_path: Path) -> str:
    path = tmp_path / "body"
    path.write_bytes(framed(BODY))
    return str(path)


async def test_curl_calls_a_method(body: str) -> None:
    curl = (tool("curl"), "-sS", "--http2-prior-knowledge")
    if b"HTTP2" not in await output(curl[0], "--version"):
        pytest.skip("this curl has no HTTP/2")
    async with serving() as served:
        url = f"http://127.0.0.1:{served.port}/s/Echo"
        assert await output(*curl, *FIELDS, "--data-binary", f"@{body}", url) == framed(BODY)
        assert b"gRPC calls are POST requests" in await output(*curl, "-i", url)


@pytest.mark.parametrize(
    "windows", [(), ("-w", "10", "-W", "12")], ids=["windows as they are", "windows of a kilobyte"]
)
async def test_h2load_gets_an_answer_to_each_call(body: str, windows: tuple[str, ...]) -> None:
    h2load = tool("h2load")
    async with serving() as served:
        load = ("-n", "2000", "-c", "4", "-m", "32", *windows, *FIELDS, "-d", body)
        said = await output(h2load, *load, f"http://127.0.0.1:{served.port}/s/Echo")
    assert b"2000 succeeded, 0 failed, 0 errored" in said, said.decode()


async def test_nodes_grpc_library_is_served() -> None:
    node = tool("node")
    if await output(node, "-e", "require('@grpc/grpc-js')"):
        pytest.skip("@grpc/grpc-js is not where node looks; NODE_PATH says where that is")
    async with serving(GrpcOptions(16 * MIB)) as served:
        said = await output(node, "-e", NODE_CALLS, str(served.port))
    assert said.strip() == b"[true,20,0,[12,4]]", said.decode()
