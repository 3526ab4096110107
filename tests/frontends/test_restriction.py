import pytest

from ortolan.errors import Restricted, StartupError
from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.rest.operations import category_of
from ortolan.frontends.restriction import CATEGORIES, NO_RESTRICTIONS, grpc_restrictions, http_restrictions
from ortolan.protocol import protobuf_messages as messages

PATHS = [
    ("/v2/health/live", "health"),
    ("/v2/health/ready", "health"),
    ("/v2/models/m/ready", "health"),
    ("/v2/models/m/versions/1/ready", "health"),
    ("/v2", "metadata"),
    ("/v2/models", "metadata"),
    ("/v2/models/m", "metadata"),
    ("/v2/models/m/versions/1", "metadata"),
    ("/v1/models", "metadata"),
    ("/v1/models/m", "metadata"),
    ("/openapi.json", "metadata"),
    ("/v2/models/m/infer", "inference"),
    ("/v2/models/m/versions/1/infer", "inference"),
    ("/v2/models/m/generate", "inference"),
    ("/v2/models/m/versions/1/generate_stream", "inference"),
    ("/v1/models/m:predict", "inference"),
    ("/v1/models/a:b:predict", "inference"),
    ("/v2/models/m/config", "model-config"),
    ("/v2/models/m/stats", "statistics"),
    ("/v2/models/stats", "statistics"),
    ("/v2/trace/setting", "trace"),
    ("/v2/models/m/trace/setting", "trace"),
    ("/v2/logging", "logging"),
    ("/v2/repository/index", "model-repository"),
    ("/v2/repository/models/m/load", "model-repository"),
    ("/v2/systemsharedmemory/status", "shared-memory"),
    ("/v2/cudasharedmemory/region/r/register", "shared-memory"),
    ("/v2/models/with\nline/infer", "inference"),
    ("/", "health"),
    ("/docs", None),
    # No route has these.
    ("/v2/", None),
    ("/v2x", None),
    ("/v2/logging\n", None),
    ("/v2/logging/", None),
    ("/v2/models/a/b", None),
]


@pytest.mark.parametrize(("path", "category"), PATHS)
def test_a_path_has_the_category_that_triton_gives_it(path: str, category: str | None) -> None:
    assert category_of(path) == category


def test_the_table_has_every_category() -> None:
    assert {category for _, category in PATHS} == {*CATEGORIES, None}


def test_every_method_of_the_service_has_a_category() -> None:
    methods = messages.service_methods(messages.INFERENCE_SERVICE)
    found = {OPERATIONS[method.name].category for method in methods}
    assert found == {*CATEGORIES}


@pytest.mark.parametrize(
    ("header", "open_"),
    [(None, False), ("", False), ("other", False), ("secret", True), ("secret ", False), ("sécret", False)],
)
def test_a_restricted_category_opens_to_the_right_header_only(header: str | None, open_: bool) -> None:
    restrictions = http_restrictions(["inference,trace:X-Key=secret", "logging:other=1"])
    headers = {"x-key": header}
    restrictions.check("metadata", headers.get)
    if open_:
        restrictions.check("inference", headers.get)
    else:
        with pytest.raises(Restricted, match="This API is restricted, expecting header 'X-Key'"):
            restrictions.check("inference", headers.get)


def test_grpc_metadata_have_tritons_prefix() -> None:
    restrictions = grpc_restrictions(["health:key=a=b"])
    restrictions.check("health", {"triton-grpc-protocol-key": "a=b"}.get)
    with pytest.raises(Restricted, match="This protocol is restricted, expecting header 'triton-grpc-protocol-key'"):
        restrictions.check("health", {"key": "a=b"}.get)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("health", "expected CATEGORY"),
        ("health:key", "expected CATEGORY"),
        ("health:=v", "expected CATEGORY"),
        ("health:k=", "expected CATEGORY"),
        ("helth:k=v", "unknown category 'helth'"),
        (":k=v", "unknown category ''"),
        ("health,health:k=v", "'health' is given twice"),
        ("health:k=sécret", "must be printable ASCII"),
        ("health:k=a\tb", "must be printable ASCII"),
        ("health:kéy=v", "no client can send a header called 'kéy'"),
        ("health:a key=v", "no client can send"),
    ],
)
def test_a_restriction_that_would_not_restrict_ends_the_start(text: str, why: str) -> None:
    with pytest.raises(StartupError, match=why):
        http_restrictions([text])


def test_one_category_has_one_header() -> None:
    with pytest.raises(StartupError, match="given twice"):
        http_restrictions(["health:a=1", "health:b=2"])


def test_without_restrictions_everything_is_open() -> None:
    assert not NO_RESTRICTIONS
    NO_RESTRICTIONS.check("inference", {}.get)


@pytest.mark.parametrize("key", ["key-bin", "Key-BIN", "a key", "kéy", "k!"])
def test_a_key_that_is_no_text_in_grpcs_metadata_ends_the_start(key: str) -> None:
    with pytest.raises(StartupError, match="no client can send a header"):
        grpc_restrictions([f"health:{key}=v"])


def test_the_names_of_all_headers_are_known() -> None:
    assert http_restrictions(["health:A=1", "trace,logging:b=2"]).headers == {"A", "b"}
