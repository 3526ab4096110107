"""Models by way of their compiled ones: mapped when there is one, as they are when anything is off."""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from onnx import numpy_helper
from server_process import eventually

from ortolan.core.compilations import Compilations, Original, QuietStore, SharedFiles
from ortolan.core.compiled_cache import CompiledCache
from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.core.private_model import CopyRules, PrivateModel
from ortolan.errors import InvalidArgument
from ortolan.execution.compiled_entry import write_model
from ortolan.execution.compiled_key import CompiledKey
from ortolan.execution.compiled_store import CompiledStore
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.model_facts import ModelFacts
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.config_completion import CompletionDefaults, default_config
from ortolan.repository.directory import walk
from ortolan.repository.override_directory import OverrideDirectories

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="models are kept compiled on Linux only")

# 9 MiB of weights, twice what is loaded from memory.
WIDTH = 1100
ROW = {"x": np.ones((1, WIDTH), np.float32)}


@dataclass
class Place:
    """A repository with one model, a cache, and where copies go."""

    root: Path
    directories: OverrideDirectories
    models: list[LoadedModel] = field(default_factory=list)

    @property
    def entries(self) -> list[Path]:
        top = self.root / "cache" / "v1"
        return [path for path in top.iterdir() if path.name != "locks"] if top.exists() else []

    @property
    def copies(self) -> list[Path]:
        return list((self.root / "copies").glob("*/*"))

    def cache(self, patience_s: float = 100.0, serving: bool = True, limit_bytes: int = 1 << 30) -> CompiledCache:
        """Another server's view of the same directory."""
        cache = CompiledCache(CompiledStore(self.root / "cache", limit_bytes), os.environ, patience_s)
        if serving:
            cache.begin_serving()
        return cache

    def load(self, cache: CompiledCache) -> LoadedModel:
        entry = walk([self.root / "repository"]).models["model"]
        config = read_config(entry)
        options = LoadingOptions(DeviceInventory(), DeviceShares(1), copies=CopyRules(self.directories), compiled=cache)
        loaded = load_version(entry, config, wanted_versions(entry, config)[1], options)
        self.models.append(loaded)
        return loaded


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    onnx_models.save_version(tmp_path / "repository", "model", onnx_models.perceptron(WIDTH))
    (tmp_path / "copies").mkdir()
    place = Place(tmp_path, OverrideDirectories(tmp_path / "copies"))
    yield place
    for model in place.models:
        model.remove_files()
    place.directories.close()


def is_mapped(place: Place) -> bool:
    """Whether this process has the cache's weights in its memory."""
    return f"{place.root}/cache/" in Path("/proc/self/maps").read_text()


def answer(model: LoadedModel) -> bytes:
    return model.instances[0][1].run(ROW, ["y"])[0].tobytes()


def settled(cache: CompiledCache, place: Place) -> None:
    """Wait until there is an entry and nobody works on one."""
    eventually(lambda: place.entries and not any(path.name.startswith(("tmp-", "new-")) for path in place.entries), 80)


def test_at_the_start_a_model_is_loaded_as_it_is_and_compiled_when_the_server_serves(place: Place) -> None:
    cache = place.cache(serving=False)
    loaded = place.load(cache)
    assert not is_mapped(place)
    assert not place.entries
    cache.begin_serving()
    settled(cache, place)
    eventually(lambda: not place.copies, 80)
    mapped = place.load(place.cache(serving=False))
    assert is_mapped(place)
    assert answer(mapped) == answer(loaded)


def test_a_server_that_serves_maps_what_another_process_made(place: Place) -> None:
    expected = answer(place.load(CompiledCache()))
    loaded = place.load(place.cache())
    assert is_mapped(place)
    assert answer(loaded) == expected
    assert not place.copies


def test_what_is_mapped_is_in_use_until_the_model_goes(place: Place) -> None:
    place.directories.remove(place.directories.new())
    descriptors = len(os.listdir("/proc/self/fd"))
    loaded = place.load(place.cache())
    assert len(os.listdir("/proc/self/fd")) > descriptors
    loaded.remove_files()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_threads_that_load_one_model_make_it_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ortolan")
    cache = place.cache()
    threads = [threading.Thread(target=place.load, args=(cache,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(place.models) == 4
    assert caplog.text.count("is compiled") == 1
    assert not place.copies


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin", "entry.json"])
def test_a_damaged_one_is_made_again(place: Place, name: str) -> None:
    expected = answer(place.load(place.cache()))
    place.models.pop().remove_files()
    path = place.entries[0] / name
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    again = place.load(place.cache())
    assert answer(again) == expected
    assert is_mapped(place)
    assert (place.entries[0] / name).read_bytes() != content


def test_one_that_the_runtime_refuses_is_discarded_and_made_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ortolan")
    place.load(place.cache())
    place.models.pop().remove_files()
    entry = place.entries[0]
    key = json.loads((entry / "entry.json").read_text().partition("\n")[2])["key"]
    (entry / "model.onnx").chmod(0o600)
    (entry / "model.onnx").write_bytes(b"of another runtime, with a good checksum")
    write_model(entry, key, ())
    loaded = place.load(place.cache())
    assert "is discarded" in caplog.text
    assert is_mapped(place)
    assert answer(loaded) == answer(place.load(CompiledCache()))


def test_another_model_under_the_same_name_is_another_entry(place: Place) -> None:
    place.load(place.cache())
    onnx_models.save_version(place.root / "repository", "model", onnx_models.perceptron(WIDTH + 2))
    place.load(place.cache())
    assert len(place.entries) == 2


def test_a_model_may_stay_out_of_it(place: Place) -> None:
    config = 'parameters { key: "compiled_cache" value { string_value: "off" } }'
    (place.root / "repository" / "model" / "config.pbtxt").write_text(config)
    place.load(place.cache())
    assert not (place.root / "cache").exists()


def test_a_small_model_stays_out_of_it(place: Place) -> None:
    onnx_models.save_version(place.root / "repository", "model", onnx_models.perceptron())
    place.load(place.cache())
    assert not (place.root / "cache").exists()


@pytest.mark.parametrize("trouble", ["a file is in its place", "others may enter it", "there is no room"])
def test_a_directory_that_is_of_no_use_is_one_warning(
    place: Place, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    limit_bytes = 1 << 30
    if trouble == "a file is in its place":
        (place.root / "cache").touch()
    elif trouble == "others may enter it":
        (place.root / "cache" / "v1").mkdir(parents=True)
        (place.root / "cache" / "v1").chmod(0o777)
    else:
        limit_bytes = 1000
    cache = place.cache(limit_bytes=limit_bytes)
    first, second = place.load(cache), place.load(cache)
    assert answer(first) == answer(second)
    assert caplog.text.count("--compiled-cache-directory") == 1


def test_copies_that_wait_to_be_compiled_take_no_more_than_the_cache_may(place: Place) -> None:
    place.load(place.cache(serving=False, limit_bytes=1 << 20))
    assert not place.copies
    place.load(place.cache(serving=False))
    assert place.copies


def test_a_model_that_gets_samples_is_tried_again_with_them(place: Place) -> None:
    cache = place.cache()
    place.load(cache)
    config = """model_warmup { name: "sample" batch_size: 1 inputs {
        key: "x" value { data_type: TYPE_FP32 dims: 1100 zero_data: true } } }"""
    (place.root / "repository" / "model" / "config.pbtxt").write_text(config)
    place.load(cache)
    assert len(place.entries) == 2


def test_only_so_many_are_compiled_at_once_and_the_others_are_loaded_as_they_are(tmp_path: Path) -> None:
    def files(asked: threading.Event) -> SharedFiles:
        class Told(SharedFiles):
            def use(self) -> Callable[[], None]:
                asked.set()
                return super().use()

        return Told(lambda: None)

    store = CompiledStore(tmp_path / "cache", 1 << 30)
    compilations = Compilations(QuietStore(store), {}, most_at_once=1)
    compilations.begin_serving()
    one, two = (CompiledKey(name, "1", "p", (), "") for name in ("one", "two"))
    config = default_config("model")
    private = PrivateModel(b"", tmp_path, ModelFacts("1", False, False), False, lambda: None)
    original = Original(private, config, tmp_path, SessionSettings(), CompletionDefaults())
    first, second = threading.Event(), threading.Event()
    with store.turn(one, 0):
        load = threading.Thread(target=compilations.ask, args=(one, original, files(first), 30.0))
        load.start()
        assert first.wait(10)
        assert compilations.ask(two, original, files(second), 30.0) is None
        assert not second.is_set()
    load.join(10)
    assert not load.is_alive()
    assert compilations.ask(two, original, files(second), 10.0) is not None


def test_a_load_waits_only_so_long(place: Place) -> None:
    cache = place.cache(patience_s=0.0)
    place.load(cache)
    assert not is_mapped(place)
    settled(cache, place)
    eventually(lambda: not place.copies, 80)
    place.load(cache)
    assert is_mapped(place)


def test_a_model_that_cannot_be_loaded_is_refused_as_ever(place: Place) -> None:
    path = place.root / "repository" / "model" / "1" / "model.onnx"
    path.write_bytes(b"no model" * (1 << 20))
    with pytest.raises(InvalidArgument, match="damaged, truncated"):
        place.load(place.cache())
    assert not place.entries
    eventually(lambda: not place.copies, 80)


def write_golden_request(place: Place, expected: np.ndarray) -> None:
    folder = place.root / "repository" / "model" / "1" / "test_data_set_0"
    folder.mkdir()
    for name, array in (("input_0", ROW["x"]), ("output_0", expected)):
        (folder / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())


def test_a_golden_request_fails_with_it_as_without_it(place: Place) -> None:
    write_golden_request(place, np.zeros((1, WIDTH), np.float32))
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="test_data_set_0"):
            place.load(place.cache())
    assert len(place.entries) == 1
    assert not place.copies


def test_a_golden_request_that_only_the_compiled_model_fails_is_no_failure(place: Place) -> None:
    loaded = place.load(place.cache())
    expected = answer(loaded)
    write_golden_request(place, np.frombuffer(expected, np.float32).reshape(1, WIDTH))
    entry = place.entries[0]
    key = json.loads((entry / "entry.json").read_text().partition("\n")[2])["key"]
    for path in entry.iterdir():
        path.unlink()
    onnx_models.save(onnx_models.identity(shape=("batch", WIDTH)), entry / "model.onnx")
    write_model(entry, key, ())
    assert answer(place.load(place.cache(serving=False))) == expected
    assert not place.entries
