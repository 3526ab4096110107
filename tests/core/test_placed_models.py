import asyncio
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx_models
import pytest

from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.placed_models import PlacedModels, directory_of, served_name
from ortolan.core.residency import ResidencyRules
from ortolan.errors import AlreadyExists, InvalidArgument, NotFound, OutOfMemory, Unavailable
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor

OPTIONS = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
LIMITS = QueueLimits(1000)
X = np.zeros((1, 4), np.float32)
ASKED = (Tensor("x", FP32, X.shape, X),)


def manager_of(base: Path | None, budget_bytes: int = 0) -> ModelManager:
    rules = ResidencyRules(budget_bytes=budget_bytes, may_unload=False)
    return ModelManager((), OPTIONS, LIMITS, 2, rules=rules, placed_base=base)


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("digits", True),
        ("7f3a9c", True),
        ("a b", True),
        ("é", True),
        ("a/b", False),  # no model has one in its name
        ("..", False),
        ("", False),
        (" a", False),
        ("a\n", False),
        ("a::b", False),  # the parts of ensembles are called so
        ("n" * 256, False),
        ("\ud800", False),
        ("model-0123", False),  # what others that are not kept become
    ],
)
def test_a_name_is_kept_where_a_model_can_be_called_that(name: str, is_kept: bool) -> None:
    served = served_name(name)
    assert (served == name) is is_kept
    assert is_kept or (served.startswith("model-") and len(served) == 38)


def test_names_that_are_not_kept_stay_different() -> None:
    assert len({served_name(name) for name in ("a/b", "a//b", "a::b", served_name("a/b"))}) == 4


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("models/a", InvalidArgument),
        ("file:///models/a", InvalidArgument),
        ("/models/\0", InvalidArgument),
        ("/etc", InvalidArgument),
        ("{base}", InvalidArgument),
        ("{base}/../outside", InvalidArgument),
        ("{base}/out", InvalidArgument),
        ("{base}/circle", InvalidArgument),
        ("{base}/nowhere", NotFound),
    ],
)
def test_only_what_is_below_the_base_may_be_loaded(url: str, kind: type[Exception], tmp_path: Path) -> None:
    base = tmp_path / "models"
    for directory in (base, tmp_path / "outside"):
        directory.mkdir()
    (base / "out").symlink_to(tmp_path / "outside")
    (base / "circle").symlink_to(base / "circle")
    with pytest.raises(kind) as refused:
        directory_of(url.format(base=base), base)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("link", "to", "is_refused"),
    [
        ("model.onnx", "{base}/../outside/model.onnx", True),
        ("model.onnx", "../../outside/model.onnx", True),
        ("model.onnx", "../b/out/model.onnx", True),  # there a link leads out
        ("1", "../../outside", True),
        ("1", "../b", True),  # has a link that leads out
        ("model.onnx", "nowhere", False),
        ("model.onnx", "../c/model.onnx", False),
        ("1", "../c", False),
        ("1", ".", False),
    ],
)
def test_links_inside_a_model_lead_nowhere_else(link: str, to: str, is_refused: bool, tmp_path: Path) -> None:
    base = tmp_path / "models"
    for directory in (base / "a", base / "b", base / "c", tmp_path / "outside"):
        directory.mkdir(parents=True)
    (base / "b" / "out").symlink_to(tmp_path / "outside")
    (base / "a" / link).symlink_to(to.format(base=base))
    if not is_refused:
        assert directory_of(str(base / "a"), base) == base / "a"
        return
    with pytest.raises(InvalidArgument, match="link") as refused:
        directory_of(str(base / "a"), base)
    assert str(tmp_path) not in str(refused.value)


async def test_a_model_that_was_placed_serves_until_it_is_displaced_and_leaves_nothing(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.adder(1), tmp_path / "a" / "model.onnx")
    manager = manager_of(tmp_path)
    await manager.placed.place("x/y", str(tmp_path / "a"))
    placed = manager.placed.find("x/y")
    response = await manager.find(placed.served_as, "").infer(InferenceRequest(placed.served_as, inputs=ASKED))
    assert response.outputs[0].array.flat[0] == 1
    with pytest.raises(AlreadyExists):
        await manager.placed.place("x/y", str(tmp_path / "a"))
    assert manager.residency.memory.holdings()
    await manager.placed.displace(placed.served_as)
    assert (manager.names(), manager.residency.memory.holdings()) == ([], [])
    with pytest.raises(NotFound):
        await manager.placed.displace(placed.served_as)
    await manager.stop()


async def test_of_one_that_does_not_fit_nothing_is_left(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.doubler(), tmp_path / "a" / "model.onnx")
    manager = manager_of(tmp_path, budget_bytes=1)
    with pytest.raises(OutOfMemory):
        await manager.placed.place("a", str(tmp_path / "a"))
    assert (manager.names(), manager.placed.all(), manager.all_ready()) == ([], [], True)
    await manager.stop()


async def test_one_that_displaces_a_model_waits_for_those_who_ask_it(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.slow(200_000), tmp_path / "a" / "model.onnx")
    manager = manager_of(tmp_path)
    await manager.placed.place("a", str(tmp_path / "a"))
    asking = asyncio.ensure_future(manager.find("a", "").infer(InferenceRequest("a", inputs=ASKED)))
    await asyncio.sleep(0)
    await manager.placed.displace("a")
    assert asking.done()
    assert asking.result().outputs[0].array.shape == (1, 4)
    await manager.stop()


class Residents:
    """Loads until it is told to, or fails; what was unloaded is in ``unloaded``."""

    def __init__(self) -> None:
        self.loads = asyncio.Event()
        self.load_fails: Exception | None = None
        self.unload_fails: Exception | None = None
        self.loaded = asyncio.Event()
        self.unloaded: list[str] = []

    async def load(self, name: str) -> None:  # noqa: ARG002
        self.loads.set()
        if self.load_fails is not None:
            raise self.load_fails
        await self.loaded.wait()

    async def unload(self, name: str) -> None:
        if self.unload_fails is not None:
            raise self.unload_fails
        self.unloaded.append(name)

    def parts(self, name: str) -> Collection[str]:
        return (name, f"{name}::part")

    async def gone(self, names: Collection[str]) -> None:
        pass


async def test_one_whose_platform_goes_while_it_loads_leaves_nothing_and_may_be_placed_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    residents = Residents()
    models = PlacedModels(residents, tmp_path)
    placing = asyncio.create_task(models.place("a", str(tmp_path / "a")))
    await residents.loads.wait()
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    assert (models.all(), residents.unloaded) == ([], ["a", "a::part"])
    residents.loaded.set()
    await models.place("a", str(tmp_path / "a"))
    assert [placed.name for placed in models.all()] == ["a"]


@pytest.mark.parametrize("unload_fails", [None, RuntimeError("unload")])
async def test_one_whose_load_fails_in_a_way_that_nobody_foresaw_leaves_nothing(
    tmp_path: Path, unload_fails: Exception | None
) -> None:
    (tmp_path / "a").mkdir()
    residents = Residents()
    residents.load_fails, residents.unload_fails = RuntimeError("load"), unload_fails
    models = PlacedModels(residents, tmp_path)
    with pytest.raises(RuntimeError):
        await models.place("a", str(tmp_path / "a"))
    assert models.all() == []


async def test_one_that_could_not_be_unloaded_is_still_known_and_may_be_unloaded_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    residents = Residents()
    residents.loaded.set()
    models = PlacedModels(residents, tmp_path)
    await models.place("a", str(tmp_path / "a"))
    residents.unload_fails = RuntimeError("unload")
    with pytest.raises(RuntimeError):
        await models.displace("a")
    assert [placed.name for placed in models.all()] == ["a"]
    residents.unload_fails = None
    await models.displace("a")
    assert models.all() == []


async def test_nothing_is_placed_where_no_platform_does(tmp_path: Path) -> None:
    manager = manager_of(None)
    with pytest.raises(Unavailable, match="--sagemaker-multi-model"):
        await manager.placed.place("a", str(tmp_path))
    await manager.stop()
