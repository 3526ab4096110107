"""Opening a model by way of its compiled one, where there is one, and having one made where there is none.

At the start of the server models are loaded as they are, which is fastest, and compiled afterwards, one by one. Once
it serves, a load waits for its model to be compiled beside it, and then only maps the result: to optimise a model and
to lay out its weights takes the processor from requests, to map them does not. Whatever goes wrong with that, the
model is loaded as it is.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from ortolan.core.compilations import Compilations, Original, QuietStore, SharedFiles, size_bytes
from ortolan.core.private_model import PrivateModel
from ortolan.errors import InvalidArgument, OrtolanError
from ortolan.execution.compiled_key import CompiledKey, options_of, this_processor
from ortolan.execution.compiled_session import open_compiled
from ortolan.execution.compiled_store import CompiledStore, Held
from ortolan.execution.devices import CPU_PROVIDER, Placement
from ortolan.execution.model_mending import open_session
from ortolan.execution.session import RUNTIME_BUILD, Session

_log = logging.getLogger(__name__)

PARAMETER = "compiled_cache"
"""The model parameter that turns it ``off``."""

# Below this a model loads in about the time that it takes to look into the cache (benchmarks/compiled_cache.py). It is
# also what is loaded from memory; what is only in memory goes to no disk.
SMALLEST_BYTES = 4 << 20
# So long a load waits, and as long again for each further 320 MiB: several times what it takes on an idle machine.
# Where all processors are busy the process of the lowest priority gets nowhere.
PATIENCE_S = 10.0
_PATIENCE_BYTES = 320 << 20


class CompiledUnfit(OrtolanError):
    """A session of a compiled model did not pass its trial; ``discard`` removes what it was made of."""

    def __init__(self, message: str, discard: Callable[[], None]) -> None:
        super().__init__(message)
        self.discard = discard


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A session, what was mended, and the files that it uses: the model's own or compiled ones."""

    session: Session
    mendings: tuple[str, ...]
    private: PrivateModel
    discard: Callable[[], None] | None = None
    """Removes the compiled model from the cache, if it is one."""

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Try the session: what it raises becomes CompiledUnfit if it may be the cache's fault."""
        try:
            yield
        except OrtolanError as error:
            if self.discard is None:
                raise
            raise CompiledUnfit(error.message, self.discard) from error


class CompiledCache:
    """All methods may be called from any thread."""

    def __init__(
        self,
        store: CompiledStore | None = None,
        environment: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Without ``store`` every model is opened as it is. ``environment`` is the server's own."""
        self._store = None if store is None else QuietStore(store)
        self._compilations = None if self._store is None else Compilations(self._store, environment or {})
        self._patience_s = patience_s

    def begin_serving(self) -> None:
        """From now on requests are answered; compile what was loaded as it is until now."""
        if self._compilations is not None:
            self._compilations.begin_serving()

    def open(self, original: Original, places: Sequence[Placement]) -> OpenedModel:
        """Open ``original`` for ``places``. Its private files are then gone, or belong to what is returned.

        Raises InvalidArgument when it cannot be loaded, or when loading it would have ended the server.
        """
        if self._store is None or not self._may_be_compiled(original, places):
            return _opened_as_it_is(original, places[0])
        key = self._key(original)
        opened = self._opened_compiled(self._store, key, original, places[0])
        if opened is None and not self._store.is_refused(key):
            files = SharedFiles(original.private.remove)
            original = replace(original, private=replace(original.private, remove=files.use()))
            self._have_compiled(key, original, files)
            opened = self._opened_compiled(self._store, key, original, places[0])
        return opened or _opened_as_it_is(original, places[0])

    @cached_property
    def _processor(self) -> str:
        return this_processor()

    def _may_be_compiled(self, original: Original, places: Sequence[Placement]) -> bool:
        """Whether it may be kept compiled, and is large enough for that."""
        source, facts = original.private.source, original.private.facts
        return (
            all([each.name for each in place.providers] == [CPU_PROVIDER] for place in places)
            and original.config.parameters.get(PARAMETER) != "off"
            # What such a library makes of the graph depends on the library.
            and not original.settings.custom_op_libraries
            and not facts.confidential
            and bool(self._processor)
            and isinstance(source, Path)
            and size_bytes(source.parent) >= SMALLEST_BYTES
        )

    def _key(self, original: Original) -> CompiledKey:
        sha256, options = original.private.facts.sha256, options_of(original.settings)
        if original.config.warmup:
            # A model that is refused because it takes nothing made up is tried again once it has samples.
            options += repr(original.config.warmup)
        return CompiledKey(sha256, RUNTIME_BUILD, self._processor, (CPU_PROVIDER,), options)

    def _opened_compiled(
        self, store: QuietStore, key: CompiledKey, original: Original, place: Placement
    ) -> OpenedModel | None:
        """A session of the compiled model, in whose place the original's files go; None where there is none."""
        held = store.find(key)
        if not isinstance(held, Held):
            return None
        name, path = original.config.name, held.model.path
        try:
            session = open_compiled(held.model, name, original.settings, place)
        except OrtolanError as error:
            held.release()
            _discard(store, key, name, error.message)
            return None
        original.private.remove()
        private = PrivateModel(path, path.parent, original.private.facts, maps_files=True, remove=held.release)
        discard = partial(_discard, store, key, name, "the model passes its trial without it")
        return OpenedModel(session, held.model.mendings, private, discard)

    def _have_compiled(self, key: CompiledKey, original: Original, files: SharedFiles) -> None:
        """Raises InvalidArgument when the model as it is crashed ONNX Runtime."""
        if self._compilations is None:
            return
        patience_s = self._patience_s * (1 + size_bytes(original.private.folder) / _PATIENCE_BYTES)
        compilation = self._compilations.ask(key, original, files, patience_s)
        if compilation is not None and compilation.crash:
            original.private.remove()
            raise InvalidArgument(
                f"loading or running model '{original.config.name}' crashed ONNX Runtime ({compilation.crash}) in the "
                "process in which it was tried, as it would have ended the server. Export it again, or with another "
                "opset."
            )


def _discard(store: QuietStore, key: CompiledKey, model_name: str, reason: str) -> None:
    _log.info("model '%s': its compiled model is discarded: %s", model_name, reason)
    store.discard(key)


def _opened_as_it_is(original: Original, place: Placement) -> OpenedModel:
    """Raises InvalidArgument when it cannot be loaded; then its files are gone."""
    private, name = original.private, original.config.name
    try:
        session, mendings = open_session(private.source, name, original.settings, place, private.folder)
    except BaseException:
        private.remove()
        raise
    return OpenedModel(session, mendings, private)
