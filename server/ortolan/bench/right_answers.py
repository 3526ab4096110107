"""One answer to each request before anything is measured: errors as a real client tells them, and what is right."""

import http.client
from collections.abc import Sequence
from dataclasses import replace

import grpc

from ortolan.bench.answer_tensors import answer_tensors, same_tensors
from ortolan.bench.load import Address, Form, PreparedRequest
from ortolan.bench.prepared_requests import INFER_METHOD
from ortolan.errors import OrtolanError, StartupError

_TIMEOUT_S = 60.0
_PREFIX_BYTES = 5


def with_right_answers(address: Address, requests: Sequence[PreparedRequest]) -> tuple[PreparedRequest, ...]:
    """The requests with the answers that they get now, which later ones are compared with.

    The first is asked twice: where the same request gets two answers, the model is one that draws at random, and
    nothing can be compared. Raises StartupError with what the server says when it does not answer.
    """
    bodies = [_answer(address, request) for request in requests]
    first = requests[0].form, _answer(address, requests[0]), bodies[0]
    _require_tensors(address, requests[0].form, bodies[0])
    if not same_tensors(*first):
        return tuple(requests)
    steady = len(first[1]) == len(first[2]) and requests[0].form is not Form.JSON
    return tuple(
        replace(request, answer=body, same_length=steady) for request, body in zip(requests, bodies, strict=True)
    )


def _require_tensors(address: Address, form: Form, body: bytes) -> None:
    try:
        answer_tensors(form, body)
    except (ValueError, KeyError, TypeError, OrtolanError):
        raise StartupError(f"{address} answers {form.title} with what is no inference response") from None


def _answer(address: Address, request: PreparedRequest) -> bytes:
    return _by_grpc(address, request) if request.form is Form.GRPC else _by_http(address, request)


def _by_http(address: Address, request: PreparedRequest) -> bytes:
    start, *lines = request.head.decode().strip().split("\r\n")
    method, path, _ = start.split(" ")
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, request.body, dict(line.split(": ", 1) for line in lines))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise StartupError(f"{address} does not answer {request.form.title}: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        said = body[:300].decode("utf-8", "replace")
        raise StartupError(f"{address} answers {request.form.title} with {response.status}: {said}")
    return body


def _by_grpc(address: Address, request: PreparedRequest) -> bytes:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(str(address), [*unlimited, ("grpc.enable_http_proxy", 0)]) as channel:
        try:
            return bytes(channel.unary_unary(INFER_METHOD)(request.body[_PREFIX_BYTES:], timeout=_TIMEOUT_S))
        except grpc.RpcError as error:
            raise StartupError(f"{address} answers gRPC with {error.code().name}: {error.details()}") from None
