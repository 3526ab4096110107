"""The registered regions: their names, who may register them, and how long they last."""

import asyncio
import resource
from collections.abc import Iterator

import pytest
from host_memory_gpu import HostMemoryGpu
from shared_objects import SharedObject, needs_linux, shared_object, times_open

from ortolan.core.cuda_region import Cuda, CudaRegion
from ortolan.core.shared_memory import LEAST_MAX_REGIONS, SharedMemoryRegions, max_regions_for
from ortolan.core.system_region import SystemRegion
from ortolan.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable, Unsupported
from ortolan.inference.shared_memory import SharedMemorySlice

pytestmark = needs_linux


@pytest.fixture
def shared() -> Iterator[SharedObject]:
    with shared_object(64, bytes(range(64))) as found:
        yield found


def names(regions: SharedMemoryRegions, kind: type = SystemRegion) -> list[str]:
    return [region.name for region in regions.status(kind, "")]


async def test_regions_are_told_by_name_and_in_their_order(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True)
    regions.register_system("b", shared.key, 8, 16)
    regions.register_system("a", shared.key, 0, 64)
    assert names(regions) == ["a", "b"]
    (found,) = regions.status(SystemRegion, "b")
    assert (found.name, found.key, found.offset, found.size_bytes) == ("b", shared.key, 8, 16)
    with pytest.raises(NotFound) as raised:
        regions.status(SystemRegion, "c")
    assert raised.value.message == "Unable to find system shared memory region: 'c'"
    await regions.unregister(SystemRegion, "")
    assert times_open(shared) == 0


async def test_a_name_belongs_to_one_region_of_either_kind(shared: SharedObject) -> None:
    gpu = HostMemoryGpu()
    regions = SharedMemoryRegions(allowed=True, find_cuda=lambda: Cuda(gpu, gpu))  # type: ignore[arg-type]
    regions.register_system("a", shared.key, 0, 64)
    await regions.register_cuda("b", gpu.exported(bytes(64)), 0, 64)
    with pytest.raises(AlreadyExists, match="shared memory region 'b' already in manager"):
        regions.register_system("b", shared.key, 0, 64)
    with pytest.raises(AlreadyExists, match="shared memory region 'a' already in manager"):
        await regions.register_cuda("a", gpu.exported(bytes(64)), 0, 64)
    assert (times_open(shared), len(gpu.opened)) == (1, 1)
    with pytest.raises(NotFound, match="Unable to find system shared memory region: 'b'"):
        regions.status(SystemRegion, "b")
    await regions.unregister(CudaRegion, "a")
    await regions.unregister(SystemRegion, "")
    assert (names(regions), names(regions, CudaRegion)) == ([], ["b"])
    await regions.unregister(CudaRegion, "b")


async def test_unregistering_what_is_not_there_is_fine() -> None:
    regions = SharedMemoryRegions(allowed=True)
    await regions.unregister(SystemRegion, "never registered")
    await regions.unregister(SystemRegion, "")


async def test_a_name_is_free_again_once_it_is_unregistered(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True)
    for size in (16, 32):
        regions.register_system("a", shared.key, 0, size)
        assert regions.status(SystemRegion, "a")[0].size_bytes == size
        await regions.unregister(SystemRegion, "a")


def test_a_region_needs_a_name(shared: SharedObject) -> None:
    """An empty one means all regions to those who unregister."""
    with pytest.raises(InvalidArgument, match="needs a name"):
        SharedMemoryRegions(allowed=True).register_system("", shared.key, 0, 64)


def test_what_fails_to_register_takes_no_name(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True)
    with pytest.raises(InvalidArgument):
        regions.register_system("a", shared.key, 0, 65)
    assert names(regions) == []


async def test_a_region_in_use_outlives_its_name(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True)
    regions.register_system("a", shared.key, 16, 16)
    with regions.held([SharedMemorySlice("a", 0, 16), SharedMemorySlice("a", 8, 8)]) as held:
        await regions.unregister(SystemRegion, "a")
        regions.register_system("a", shared.key, 48, 16)
        assert bytes(await held["a"].read(0, 2)) == bytes([16, 17])
        assert times_open(shared) == 2
    assert times_open(shared) == 1
    await regions.unregister(SystemRegion, "a")
    assert times_open(shared) == 0


async def test_a_place_that_is_not_there_lets_go_of_those_before_it(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True)
    regions.register_system("a", shared.key, 0, 64)
    for wrong, error in ((SharedMemorySlice("b", 0, 1), NotFound), (SharedMemorySlice("a", 0, 65), InvalidArgument)):
        with pytest.raises(error), regions.held([SharedMemorySlice("a", 0, 1), wrong]):
            raise AssertionError("the block must not begin")
    await regions.unregister(SystemRegion, "a")
    assert times_open(shared) == 0


def test_an_unknown_region_is_named(shared: SharedObject) -> None:
    with pytest.raises(NotFound) as raised, SharedMemoryRegions(True).held([SharedMemorySlice("x", 0, 1)]):
        raise AssertionError("the block must not begin")
    assert raised.value.message == "Unable to find shared memory region: 'x'"


async def test_there_is_an_end_to_registering(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True, max_regions=8)
    for number in range(8):
        regions.register_system(str(number), shared.key, 0, 1)
    with pytest.raises(Unavailable, match="8 shared memory regions are registered already"):
        regions.register_system("one more", shared.key, 0, 1)
    await regions.unregister(SystemRegion, "7")
    regions.register_system("one more", shared.key, 0, 1)
    await regions.unregister(SystemRegion, "")
    assert times_open(shared) == 0


@pytest.mark.parametrize(("open_files", "regions"), [(0, 512), (1024, 512), (4096, 1024), (2**20, 2**18)])
def test_a_quarter_of_the_open_files_may_be_regions(open_files: int, regions: int) -> None:
    assert max_regions_for(open_files) == regions


def test_what_the_process_may_open_decides_how_many_there_may_be(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < 4 * (LEAST_MAX_REGIONS + 1) or limit == resource.RLIM_INFINITY:
        pytest.skip("this process may not open many files")
    for number in range(LEAST_MAX_REGIONS + 1):
        regions.register_system(str(number), shared.key, 0, 1)
    asyncio.run(regions.unregister(SystemRegion, ""))


def test_a_name_has_255_bytes_at_most(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=True)
    with pytest.raises(InvalidArgument, match="name must have at most 255 bytes, got 256"):
        regions.register_system("ß" * 128, shared.key, 0, 1)
    regions.register_system("ß" * 127 + "s", shared.key, 0, 1)
    asyncio.run(regions.unregister(SystemRegion, ""))


async def test_without_the_operators_leave_only_the_status_is_told(shared: SharedObject) -> None:
    regions = SharedMemoryRegions(allowed=False)
    refusal = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
    with pytest.raises(Unsupported) as registering:
        regions.register_system("a", shared.key, 0, 64)
    with pytest.raises(Unsupported) as registering_cuda:
        await regions.register_cuda("a", b"", 0, 64)
    with pytest.raises(Unsupported) as unregistering:
        await regions.unregister(SystemRegion, "")
    assert {raised.value.message for raised in (registering, registering_cuda, unregistering)} == {refusal}
    assert names(regions) == names(regions, CudaRegion) == []
