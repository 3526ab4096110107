"""Models that a platform has loaded, each from a directory of its own, by names that mean nothing here.

Such a platform keeps the books: it says which model goes when there is no room for another, so that none is unloaded
behind its back, and it relies on the memory of one that it has unloaded. Lives on the event loop.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from ortolan.core.control_rules import check_model_name
from ortolan.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from ortolan.repository.directory import NAMESPACE_SEPARATOR

_log = logging.getLogger(__name__)

_HASHED = "model-"
_NOT_ON = "this server loads no models for a platform; start it with --sagemaker-multi-model to have it do so"
# A run that hangs may never end. Platforms wait about as long.
_PATIENCE_S = 50.0
# Far more than a model has. Bounds how long it takes to look at all.
_MOST_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """``name`` and ``url`` are the platform's own words; ``served_as`` is the model's name in this server."""

    name: str
    url: str
    served_as: str
    directory: Path


class Residents(Protocol):
    """What the models of the server do for this."""

    async def load(self, name: str) -> None:
        """Load the model; raises as ``ModelControl.load`` does."""

    async def unload(self, name: str) -> None: ...

    def parts(self, name: str) -> Collection[str]:
        """The names of the models that there are for the model's sake, and its own, as far as they are known."""

    async def gone(self, names: Collection[str]) -> None:
        """Return once nothing of them is in memory, and forget them."""


class PlacedModels:
    """All such models. What is asked of one is done in the order in which it was asked."""

    def __init__(self, residents: Residents, base: Path | None, patience_s: float = _PATIENCE_S) -> None:
        """``base`` has all directories that a platform may name; None where no platform places models."""
        self._residents = residents
        self._base = base
        self._patience_s = patience_s
        self._placed: dict[str, PlacedModel] = {}
        self._orders: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def places(self) -> Mapping[str, Path]:
        """The directory of each, by the name that it is served as. May be asked for in any thread."""
        return {placed.served_as: placed.directory for placed in tuple(self._placed.values())}

    def all(self) -> list[PlacedModel]:
        """Every one, by the platform's names."""
        return sorted(self._placed.values(), key=lambda placed: placed.name)

    def find(self, name: str) -> PlacedModel:
        """The one that the platform calls ``name``. Raises NotFound."""
        return self._get(served_name(name))

    async def place(self, name: str, url: str) -> None:
        """Load the model in the directory that ``url`` names.

        Raises AlreadyExists where it is loaded, NotFound and InvalidArgument for what no model can be loaded from, and
        OutOfMemory where there is no room for it; nothing of it is left then.
        """
        if self._base is None:
            raise Unavailable(_NOT_ON)
        if not name.isprintable():
            raise InvalidArgument("a model's name must have no control characters, or no path could name it")
        directory = await asyncio.to_thread(directory_of, url, self._base)
        placed = PlacedModel(name, url, served_name(name), directory)
        async with self._order(placed.served_as):
            if placed.served_as in self._placed:
                raise AlreadyExists("a model of that name is loaded already; unload it first with DELETE")
            self._placed[placed.served_as] = placed
            try:
                await self._residents.load(placed.served_as)
            # Also who goes meanwhile takes nothing to have been loaded, and what nobody foresaw is no model either.
            except BaseException:
                await asyncio.shield(self._take_back(placed.served_as))
                raise

    async def displace(self, served_as: str) -> None:
        """Unload the model, and return once its memory is free. Raises NotFound for one that is not loaded.

        Goes on to its end where who asked goes; a model that cannot be unloaded stays, so that it can be tried again.
        """
        await asyncio.shield(self._displace(served_as))

    async def _displace(self, served_as: str) -> None:
        async with self._order(served_as):
            await self._remove(self._get(served_as).served_as)

    async def _take_back(self, served_as: str) -> None:
        try:
            await self._remove(served_as)
        # The platform does not think of it as loaded, and would never unload it.
        finally:
            self._placed.pop(served_as, None)

    def _get(self, served_as: str) -> PlacedModel:
        placed = self._placed.get(served_as)
        if placed is None:
            raise NotFound("no such model is loaded; load it with POST /models")
        return placed

    async def _remove(self, served_as: str) -> None:
        # Waits for a load that goes on. Only then all parts are known.
        await self._residents.unload(served_as)
        parts = self._residents.parts(served_as)
        for part in parts:
            if part != served_as:
                await self._residents.unload(part)
        self._placed.pop(served_as, None)
        try:
            await asyncio.wait_for(self._residents.gone(parts), self._patience_s)
        except TimeoutError:
            _log.warning("model '%s' is still in memory: requests that it was asked have not ended", served_as)

    def _order(self, served_as: str) -> asyncio.Lock:
        return self._orders.setdefault(served_as, asyncio.Lock())


def served_name(name: str) -> str:
    """What a model is called here that a platform calls ``name``: the same, where a model can be called that."""
    try:
        check_model_name(name)
    except InvalidArgument:
        return _hashed(name)
    # The parts of ensembles are named so, and a blank at an end is lost in most logs.
    is_ours = NAMESPACE_SEPARATOR in name or name.startswith(_HASHED) or name != name.strip()
    return _hashed(name) if is_ours else name


def _hashed(name: str) -> str:
    return _HASHED + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def directory_of(url: str, base: Path) -> Path:
    """The directory, or file, that ``url`` names below ``base``; blocking.

    Raises InvalidArgument for what is not below it, wherever links lead, also those inside the directory, and NotFound
    for what is not there.
    """
    if "\0" in url or not url.startswith("/"):
        raise InvalidArgument("'url' expects the absolute path of a model's directory on the server's machine")
    try:
        place, allowed = Path(url).resolve(), base.resolve()
    # Python before 3.13 raises RuntimeError for a loop of symbolic links.
    except (OSError, RuntimeError) as error:
        raise InvalidArgument("'url' names no directory that can be read") from error
    if place == allowed or not place.is_relative_to(allowed):
        raise InvalidArgument("'url' names a directory that models may not be loaded from")
    if not place.exists():
        raise NotFound("'url' names a directory that is not there")
    _check_links(place, allowed)
    return place


def _check_links(place: Path, allowed: Path) -> None:
    """Raises InvalidArgument where a link in the tree ``place``, or where one leads, leads out of ``allowed``.

    Both are free of links themselves.
    """
    left, seen, entries = [place], {place}, 0
    while left:
        for entry in _entries(left.pop()):
            entries += 1
            if entries > _MOST_ENTRIES:
                raise InvalidArgument(
                    f"'url' names a directory of more than {_MOST_ENTRIES} files, too many for a model"
                )
            target = _target(entry) if entry.is_symlink() else Path(entry.path)
            if not target.is_relative_to(allowed):
                raise InvalidArgument("'url' names a model with a link to where models may not be loaded from")
            if target not in seen and target.is_dir():
                seen.add(target)
                left.append(target)


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """None where there is no directory, or none that can be read: nothing can be loaded from that."""
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []


def _target(link: os.DirEntry[str]) -> Path:
    """Where ``link`` leads. Raises InvalidArgument for one that leads in circles."""
    try:
        return Path(link.path).resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidArgument("'url' names a model with a link that leads nowhere") from error
