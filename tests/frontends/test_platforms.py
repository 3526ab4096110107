import base64
from pathlib import Path

import pytest

from ortolan import errors
from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.placed_models import PlacedModel
from ortolan.errors import Forbidden, InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.frontends.access.access import Access, Credentials
from ortolan.frontends.access.grants import ANYBODY_BUT_ADMIN
from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.rest.inference_exchange import RestOptions
from ortolan.frontends.rest.platform_options import PlatformOptions, SageMakerOptions, VertexOptions
from ortolan.frontends.rest.platforms import Platforms
from ortolan.frontends.rest.sagemaker_models import page_of
from ortolan.frontends.rest.vertex_redirect import redirected
from ortolan.frontends.status import sagemaker_status

MANAGER = ModelManager((), LoadingOptions(DeviceInventory(cores=1), DeviceShares(1)), QueueLimits(1000))
CORE = InferenceCore(MANAGER, "ortolan", "explicit", True)
ONE = PlatformOptions(SageMakerOptions(default_model="m"))
MANY = PlatformOptions(SageMakerOptions(multi_model=True))
VERTEX = PlatformOptions(vertex=VertexOptions("/p", "/h", "m"))


@pytest.mark.parametrize(
    ("options", "method", "path", "operation", "model"),
    [
        (ONE, "POST", "/invocations", "ModelInfer", "m"),
        (ONE, "GET", "/invocations", None, None),
        (ONE, "POST", "/models", None, None),
        (ONE, "POST", "/p", None, None),
        (MANY, "POST", "/invocations", None, None),
        (MANY, "POST", "/models", "RepositoryModelLoad", None),
        (MANY, "GET", "/models", "RepositoryIndex", None),
        (MANY, "HEAD", "/models", "RepositoryIndex", None),
        (MANY, "PUT", "/models", None, None),
        (MANY, "GET", "/models/a", "ModelReady", "a"),
        (MANY, "DELETE", "/models/a", "RepositoryModelUnload", "a"),
        (MANY, "POST", "/models/a", None, None),
        (MANY, "POST", "/models/a/invoke", "ModelInfer", "a"),
        (MANY, "POST", "/models/a/b/invoke", "ModelInfer", "a/b"),
        # As the routes have it: the scope is asked for the model that is meant.
        (MANY, "DELETE", "/models/a/invoke", "RepositoryModelUnload", "a/invoke"),
        (MANY, "GET", "/models/a/invoke", "ModelReady", "a/invoke"),
        (MANY, "POST", "/models/invoke", None, None),
        (MANY, "GET", "/modelsx", None, None),
        (VERTEX, "POST", "/p", "ModelInfer", "m"),
        (VERTEX, "GET", "/p", None, None),
        (VERTEX, "GET", "/h", "ServerReady", None),
        (VERTEX, "POST", "/h", None, None),
        (VERTEX, "POST", "/p/", None, None),
        (PlatformOptions(vertex=VertexOptions("/v2/models/x/infer", "/")), "POST", "/v2/models/x/infer", None, None),
        (PlatformOptions(vertex=VertexOptions("/p", "/v2/logging")), "POST", "/v2/logging", None, None),
    ],
)
def test_each_route_of_a_platform_is_an_operation(
    options: PlatformOptions, method: str, path: str, operation: str | None, model: str | None
) -> None:
    asked = Platforms(CORE, options).operation_of(method, path)
    assert (asked and asked.operation.name, asked and asked.model) == (operation, model)


@pytest.mark.parametrize(
    ("method", "path", "category"),
    [
        ("POST", "/models/v1/invoke", "inference"),
        ("DELETE", "/models/v1/invoke", "model-repository"),
        ("GET", "/models/v1/invoke", "health"),
        ("HEAD", "/models/v1/invoke", "health"),
        ("DELETE", "/models/a", "model-repository"),
        ("PUT", "/models/a", "model-repository"),  # no route; not open for that
        ("GET", "/models", "model-repository"),
        ("GET", "/nowhere", None),
    ],
)
def test_what_is_restricted_is_what_the_method_comes_to(method: str, path: str, category: str | None) -> None:
    assert Platforms(CORE, MANY).category_of(method, path) == category


@pytest.mark.parametrize(
    ("text", "leads"),
    [
        ("v2/models/m/infer", ("POST", "/v2/models/m/infer")),
        ("/v2/models/m/versions/1/stats/", ("GET", "/v2/models/m/versions/1/stats")),
        (" v2/repository/index ", ("POST", "/v2/repository/index")),
        ("v2/logging", ("GET", "/v2/logging")),
        ("v2/systemsharedmemory/status", ("GET", "/v2/systemsharedmemory/status")),
        ("v2/cudasharedmemory/region/r/status", ("GET", "/v2/cudasharedmemory/region/r/status")),
        ("metrics", ("GET", "/metrics")),
        ("v1/models/m:predict", ("POST", "/v1/models/m:predict")),
    ],
)
def test_a_redirect_leads_to_what_infers_or_shows(text: str, leads: tuple[str, str]) -> None:
    assert redirected(text) == leads


@pytest.mark.parametrize(
    "text",
    [
        "v2/repository/models/m/load",
        "v2/repository/models/m/unload",
        "v2/systemsharedmemory/region/r/register",
        "v2/systemsharedmemory/unregister",
        "v2/cudasharedmemory/region/r/register",
        "v2/cudasharedmemory/unregister",
        "docs",
        "openapi.json",
        "nowhere",
        "V2/models/m/stats",
        "v2/models/m/stats?x",
    ],
)
def test_a_redirect_leads_to_nothing_else(text: str) -> None:
    with pytest.raises(Forbidden):
        redirected(text)


def placed(*names: str) -> list[PlacedModel]:
    return [PlacedModel(name, "/m", name, Path("/m")) for name in names]


def test_pages_begin_where_the_last_one_ended_whatever_came_or_went_between() -> None:
    names = [f"m{number:03}" for number in range(250)]
    page, token = page_of(placed(*names), "")
    assert ([model.name for model in page], bool(token)) == (names[:100], True)
    page, token = page_of(placed("a", *names[120:]), token or "")
    assert ([model.name for model in page], bool(token)) == (names[120:220], True)
    page, token = page_of(placed(*names), token or "")
    assert ([model.name for model in page], token) == (names[220:], None)
    assert page_of([], "") == ([], None)
    assert page_of(placed(*names[:100]), "")[1] is None


@pytest.mark.parametrize("token", ["%", "a", "é", "====", base64.b64encode(b"\xff").decode()])
def test_a_token_of_nobodys_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="next_page_token"):
        page_of([], token)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.AlreadyExists, 409),
        (errors.OutOfMemory, 507),
        (errors.QueueFull, 503),
        (errors.NotFound, 404),
        (errors.InvalidArgument, 400),
    ],
)
def test_the_contract_of_many_models_has_codes_of_its_own(error: type[errors.OrtolanError], status: int) -> None:
    assert sagemaker_status(error("why")) == status


class _Nobody:
    def find(self, key: str) -> None:  # noqa: ARG002
        return None


LOAD = OPERATIONS["RepositoryModelLoad"]


def test_a_platform_that_has_no_key_may_administer_where_nobody_has_one() -> None:
    reached = Access(None, ANYBODY_BUT_ADMIN)
    reached.check_platform(LOAD, None, {}.get, None)
    with pytest.raises(Forbidden):
        reached.check(LOAD, None, {}.get, None)


def test_where_keys_are_asked_for_a_platform_needs_one_too() -> None:
    guarded = Access(Credentials((_Nobody(),), lambda _: None))
    with pytest.raises(errors.Unauthenticated):
        guarded.check_platform(LOAD, None, {}.get, None)


def test_pages_of_browsers_are_no_platform() -> None:
    local = Access(None, checks_browsers=True)
    local.check_platform(LOAD, None, {"host": "127.0.0.1:8080"}.get, None)
    with pytest.raises(Forbidden):
        local.check_platform(LOAD, None, {"host": "127.0.0.1:8080", "origin": "https://page.example"}.get, None)


def test_without_a_platform_there_is_nothing_of_it() -> None:
    platforms = Platforms(CORE, RestOptions(1000).platforms)
    assert platforms.operation_of("POST", "/invocations") is platforms.category_of("POST", "/invocations") is None
    assert not platforms.redirect
