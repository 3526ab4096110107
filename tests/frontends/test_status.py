import grpc
import pytest

from ortolan import errors
from ortolan.frontends import status

KINDS = [
    (errors.InvalidArgument, 400, "INVALID_ARGUMENT"),
    (errors.MessageTooLarge, 400, "RESOURCE_EXHAUSTED"),
    (errors.NotFound, 404, "NOT_FOUND"),
    (errors.AlreadyExists, 400, "ALREADY_EXISTS"),
    (errors.Unavailable, 503, "UNAVAILABLE"),
    (errors.QueueFull, 503, "UNAVAILABLE"),
    (errors.RequestTimeout, 503, "UNAVAILABLE"),
    (errors.NoRoom, 503, "RESOURCE_EXHAUSTED"),
    (errors.OutOfMemory, 503, "UNAVAILABLE"),
    (errors.Incomplete, 400, "INVALID_ARGUMENT"),
    (errors.DeadlineExceeded, 504, "DEADLINE_EXCEEDED"),
    (errors.Unsupported, 501, "UNIMPLEMENTED"),
    (errors.UnsupportedEncoding, 415, "UNIMPLEMENTED"),
    (errors.BodyTooLarge, 413, "RESOURCE_EXHAUSTED"),
    (errors.Restricted, 403, "UNAVAILABLE"),
    (errors.Unauthenticated, 401, "UNAUTHENTICATED"),
    (errors.Forbidden, 403, "PERMISSION_DENIED"),
    (errors.Cancelled, 400, "CANCELLED"),
    (errors.Unknown, 400, "UNKNOWN"),
    (errors.Internal, 500, "INTERNAL"),
    (errors.OrtolanError, 500, "INTERNAL"),
]


def descendants(kind: type[errors.OrtolanError]) -> set[type[errors.OrtolanError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return {kind}.union(*(descendants(child) for child in children))


@pytest.mark.parametrize(("kind", "http", "code"), KINDS)
def test_every_kind_of_error_has_tritons_statuses(kind: type[errors.OrtolanError], http: int, code: str) -> None:
    assert status.http_status(kind("why")) == http
    assert status.grpc_code(kind("why")) is grpc.StatusCode[code]


def test_the_table_has_every_kind() -> None:
    assert {kind for kind, _, _ in KINDS} == descendants(errors.OrtolanError)


def test_a_kind_below_one_of_these_inherits_its_statuses() -> None:
    class Narrower(errors.QueueFull):
        pass

    assert status.http_status(Narrower("why")) == 503


def test_who_finds_no_memory_is_told_to_come_again() -> None:
    told = status.foreseen(MemoryError())
    assert told is not None
    assert status.http_status(told) == 503
    assert status.foreseen(ValueError("why")) is None
