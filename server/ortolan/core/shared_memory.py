"""The regions of shared memory that clients have registered, of both kinds under one set of names."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from ortolan.core.cuda_region import Cuda, CudaRegion, load_cuda
from ortolan.core.memory_region import MemoryRegion
from ortolan.core.system_region import SystemRegion
from ortolan.errors import AlreadyExists, InvalidArgument, NotFound, OrtolanError, Unavailable, Unsupported
from ortolan.inference.shared_memory import SharedMemorySlice

if sys.platform != "win32":
    import resource

LEAST_MAX_REGIONS = 512
"""So many regions there may always be. Each may be an open file, of which a process commonly may have 1024."""

_LONGEST_NAME_BYTES = 255
# Connections and models need files too.
_SHARE_OF_FILES = 4

_R = TypeVar("_R", bound=MemoryRegion)


class SharedMemoryRegions:
    """Registers regions, finds them by name, and lets them go. Its methods may be called in any thread."""

    def __init__(
        self, allowed: bool, find_cuda: Callable[[], Cuda | None] = load_cuda, max_regions: int | None = None
    ) -> None:
        """``allowed``: whether clients may use shared memory at all; if not, all but the status is refused.

        ``max_regions``: how many there may be; without it, as many as the process's limit to open files allows.
        """
        self._allowed = allowed
        self._max_regions = max_regions_for(_open_files_limit()) if max_regions is None else max_regions
        self._find_cuda = find_cuda
        self._lock = threading.Lock()
        self._regions: dict[str, MemoryRegion] = {}

    def require_allowed(self) -> None:
        """Raises Unsupported unless the operator lets clients use shared memory."""
        if not self._allowed:
            raise Unsupported(
                "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
            )

    def register_system(self, name: str, key: str, offset: int, size_bytes: int) -> None:
        """Register ``size_bytes`` from ``offset`` on of the object ``key`` as ``name``.

        Raises as ``SystemRegion`` does, AlreadyExists for a name that is taken, Unavailable when there are too many.
        """
        self._add(name, lambda: SystemRegion(name, key, offset, size_bytes))

    async def register_cuda(self, name: str, raw_handle: bytes, device: int, size_bytes: int) -> None:
        """Register the first ``size_bytes`` of the allocation behind a CUDA IPC handle as ``name``.

        Raises as ``CudaRegion`` does, InvalidArgument where there is no GPU, and as ``register_system`` for the name.
        """
        # A client that goes away meanwhile takes nothing back, so that nothing is left open without a name.
        await asyncio.to_thread(self._add, name, lambda: self._open_cuda(name, raw_handle, device, size_bytes))

    async def unregister(self, kind: type[MemoryRegion], name: str) -> None:
        """Forget the region ``name`` of one kind, or all of that kind for ""; others and unknown names are fine.

        Requests that use it go on with it; it is closed when they have ended.
        """
        self.require_allowed()
        with self._lock:
            named = [region for region in self._regions.values() if name in ("", region.name)]
            found = [region for region in named if isinstance(region, kind)]
            for region in found:
                del self._regions[region.name]
        # To close a GPU's may take long. The shield lets it happen also where it had not begun when the client went.
        if found and kind is CudaRegion:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, _let_go, found))
        else:
            _let_go(found)

    def status(self, kind: type[_R], name: str) -> list[_R]:
        """The region ``name`` of one kind, or all of that kind for "", by name. Raises NotFound for an unknown name."""
        with self._lock:
            found = [region for region in self._regions.values() if isinstance(region, kind)]
        named = [region for region in found if name in ("", region.name)]
        if name and not named:
            raise NotFound(f"Unable to find {kind.kind} shared memory region: '{name}'")
        return sorted(named, key=lambda region: region.name)

    @contextmanager
    def held(self, places: Iterable[SharedMemorySlice]) -> Iterator[Mapping[str, MemoryRegion]]:
        """The regions of ``places``, by name, open until the block ends; for who is on the event loop.

        Raises NotFound for an unknown region and InvalidArgument for a place that is not wholly inside its own.
        """
        regions: dict[str, MemoryRegion] = {}
        try:
            for place in places:
                if place.region not in regions:
                    regions[place.region] = self._held(place.region)
                regions[place.region].check(place)
            yield regions
        finally:
            for region in regions.values():
                region.let_go_on_loop()

    def _held(self, name: str) -> MemoryRegion:
        with self._lock:
            region = self._regions.get(name)
            if region is None:
                raise NotFound(f"Unable to find shared memory region: '{name}'")
            region.hold()
        return region

    def _add(self, name: str, open_region: Callable[[], MemoryRegion]) -> None:
        self.require_allowed()
        if not name:
            raise InvalidArgument("a shared memory region needs a name, got an empty one")
        size = len(name.encode(errors="replace"))
        if size > _LONGEST_NAME_BYTES:
            raise InvalidArgument(
                f"a shared memory region's name must have at most {_LONGEST_NAME_BYTES} bytes, got {size}"
            )
        with self._lock:
            self._refuse(name)
        region = open_region()
        try:
            # Looked at again, because opening may take long.
            with self._lock:
                self._refuse(name)
                self._regions[name] = region
        except OrtolanError:
            region.let_go()
            raise

    def _refuse(self, name: str) -> None:
        """Raises when no region can be added as ``name``."""
        if name in self._regions:
            raise AlreadyExists(f"shared memory region '{name}' already in manager")
        if len(self._regions) >= self._max_regions:
            raise Unavailable(
                f"{self._max_regions} shared memory regions are registered already, and there may not be more; "
                "unregister those that are not used"
            )

    def _open_cuda(self, name: str, raw_handle: bytes, device: int, size_bytes: int) -> CudaRegion:
        cuda = self._find_cuda()
        if cuda is None:
            raise InvalidArgument(f"failed to register CUDA shared memory region: '{name}', GPUs not supported")
        return CudaRegion(name, raw_handle, device, size_bytes, cuda)


def max_regions_for(open_files: int) -> int:
    """How many regions there may be in a process that may have so many ``open_files``."""
    return max(LEAST_MAX_REGIONS, open_files // _SHARE_OF_FILES)


def _open_files_limit() -> int:
    """How many files this process may have open; 0 where the system does not tell or sets no limit."""
    if sys.platform == "win32":
        return 0
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if limit == resource.RLIM_INFINITY else limit


def _let_go(regions: Iterable[MemoryRegion]) -> None:
    for region in regions:
        region.let_go()
