"""The limits that docs/protocol.md tells are those that hold."""

from pathlib import Path

import pytest

from ortolan.core.request_terms import MAX_ID_CHARACTERS, MAX_SEQUENCE_ID_CHARACTERS
from ortolan.core.shared_memory import LEAST_MAX_REGIONS
from ortolan.frontends.grpc.connection_life import OPENING_S, PATIENCE_BYTES, PATIENCE_S, STALLED_S
from ortolan.frontends.grpc.stream_room import MOST_BYTES
from ortolan.frontends.rest.http_limits import HttpLimits
from ortolan.http2.limits import Http2Limits
from ortolan.inference.classification import MAX_ELEMENTS
from ortolan.inference.request import MAX_PARAMETERS, MAX_TENSOR_PARAMETERS, MAX_TENSORS
from ortolan.protocol.json_document import MAX_DEPTH
from ortolan.protocol.json_tensors import MAX_DIMENSIONS
from ortolan.protocol.protobuf_framing import MAX_FIELDS
from ortolan.protocol.protobuf_tensors import MAX_RANK
from ortolan.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
DEFAULTS = Settings()
HTTP2 = Http2Limits()
HTTP1 = HttpLimits()
BODY_S = DEFAULTS.http_body_timeout_secs

LIMITS = [
    ("a request, also decompressed; over HTTP and gRPC", f"{DEFAULTS.http_max_input_size >> 20} MiB"),
    ("nesting of JSON", f"{MAX_DEPTH}"),
    ("inputs and outputs of a request", f"{MAX_TENSORS:,} each"),
    ("fields of a gRPC request beside each other", f"{MAX_FIELDS:,}"),
    ("parameters of a request", f"{MAX_PARAMETERS}"),
    ("parameters of an input, or of a listed output", f"{MAX_TENSOR_PARAMETERS}"),
    ("unsent answers of a gRPC stream; while there are more, no request is read", f"{MOST_BYTES >> 20} MiB"),
    ("dimensions of a tensor", f"{MAX_DIMENSIONS}"),
    ("dimensions of a tensor", f"{MAX_RANK}"),
    ("a request's `id`", f"{MAX_ID_CHARACTERS:,} characters"),
    ("a `sequence_id` in text", f"{MAX_SEQUENCE_ID_CHARACTERS} characters"),
    ("elements of an output with `classification`", f"{MAX_ELEMENTS:,}"),
    ("requests that wait for a version", f"{DEFAULTS.max_queue_size:,}"),
    ("tensors that wait for a version", f"{DEFAULTS.max_queue_bytes >> 30} GiB"),
    (
        "metadata of a gRPC call",
        f"{HTTP2.header_list_bytes >> 10} KiB, else `RESOURCE_EXHAUSTED`; the connection ends above "
        f"{HTTP2.header_block_bytes >> 10} KiB",
    ),
    ("calls at once on a gRPC connection", f"{HTTP2.concurrent_streams:,}; clients wait with more"),
    (
        "a gRPC request that has begun",
        f"{PATIENCE_BYTES >> 10} KiB of it, or its end, within each {PATIENCE_S:.0f} s, else `DEADLINE_EXCEEDED`",
    ),
    ("a gRPC client's first words", f"{OPENING_S:.0f} s"),
    ("a gRPC client that takes nothing of its answers", f"{STALLED_S:.0f} s"),
    (
        "cancelled calls, pings, settings, large header fields of calls that are refused or cancelled, and whatever "
        "else makes work and is none",
        f"{HTTP2.calm_budget:,}, and {HTTP2.calm_per_s} a second, and some with each answer; then the connection ends "
        "with `ENHANCE_YOUR_CALM`",
    ),
    (
        "JSON of a request over HTTP, also decompressed; a load may have as much as any request",
        f"{DEFAULTS.http_max_json_size >> 20} MiB",
    ),
    (
        "what of an HTTP/1 request is no body",
        f"{HTTP1.head_bytes >> 10} KiB, else 431, or 414 where most of it is the path",
    ),
    (
        "an HTTP/1 request's head, the first from the connection on",
        f"{DEFAULTS.http_header_timeout_secs:.0f} s, else 408; who has said nothing is told nothing",
    ),
    (
        "what is read of a body that was answered before it was whole",
        f"{HTTP1.unwanted_bytes >> 20} MiB; the connection ends with the answer where more is declared, or comes",
    ),
    (
        "an HTTP/1 request's body",
        f"{HTTP1.pace_bytes >> 10} KiB of it, or its end, within each {BODY_S:.0f} s, else 408",
    ),
    ("an HTTP/1 client that takes nothing of its answer", f"{DEFAULTS.http_write_timeout_secs:.0f} s"),
    ("regions of shared memory", f"{LEAST_MAX_REGIONS}, or a quarter of the files that the process may open"),
]


@pytest.mark.parametrize(("what", "limit"), LIMITS)
def test_a_limit_is_as_documented(what: str, limit: str) -> None:
    assert f"| {what} | {limit} |" in PAGE
