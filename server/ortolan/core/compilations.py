"""Who compiles models: threads that each watch over a process, at once for a load that waits, or later one by one."""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ortolan.core.private_model import PrivateModel
from ortolan.execution.compiled_entry import Refusal
from ortolan.execution.compiled_job import CompileJob
from ortolan.execution.compiled_key import CompiledKey
from ortolan.execution.compiled_process import Making, Outcome, compile_apart
from ortolan.execution.compiled_store import CompiledStore, Held, free_bytes
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.config_completion import CompletionDefaults
from ortolan.repository.model_config import ModelConfig

_log = logging.getLogger(__name__)

# A process that takes longer hangs, or the machine is so busy that it will not come to an end.
_LIMIT_S = 900.0
# Each process needs several times its model of memory, and no budget counts that.
_MOST_AT_ONCE = 4


class QuietStore:
    """A store that is no use rather than an error where its directory cannot be used, and says so once."""

    def __init__(self, store: CompiledStore) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    def find(self, key: CompiledKey) -> Held | Refusal | None:
        try:
            return self.store.find(key)
        except OSError as error:
            self.warn_once(error)
            return None

    def is_refused(self, key: CompiledKey) -> bool:
        """Whether it is known that there is to be none."""
        return isinstance(self._looked_up(key), Refusal)

    def is_known(self, key: CompiledKey) -> bool:
        return self._looked_up(key) is not None

    def _looked_up(self, key: CompiledKey) -> Held | Refusal | None:
        found = self.find(key)
        if isinstance(found, Held):
            found.release()
        return found

    def discard(self, key: CompiledKey) -> None:
        try:
            self.store.discard(key)
        except OSError as error:
            self.warn_once(error)

    def warn_once(self, error: OSError) -> None:
        text = error.strerror or str(error)
        with self._lock:
            known = text in self._warned
            self._warned.add(text)
        if not known:
            _log.warning(
                "models are not kept compiled in --compiled-cache-directory: %s. They are loaded as they are; give "
                "another directory, or off.",
                text,
            )


class SharedFiles:
    """Files that several use, removed when the last has let go of them."""

    def __init__(self, remove: Callable[[], None]) -> None:
        self._remove = remove
        self._lock = threading.Lock()
        self._users: set[object] = set()

    def use(self) -> Callable[[], None]:
        """A new user's way to let go, which it may do several times."""
        user = object()
        with self._lock:
            self._users.add(user)
        return lambda: self._let_go(user)

    def _let_go(self, user: object) -> None:
        with self._lock:
            last = self._users == {user}
            self._users.discard(user)
        if last:
            self._remove()


@dataclass(frozen=True, slots=True)
class Original:
    """The model that is to be compiled. ``config`` has its instance groups; ``directory`` has its warm-up samples."""

    private: PrivateModel
    config: ModelConfig
    directory: Path
    settings: SessionSettings
    defaults: CompletionDefaults

    def job(self, source: Path, key: CompiledKey, folder: Path) -> CompileJob:
        """The work of writing its compiled model, from its file ``source``, into ``folder``."""
        directory = self.directory.absolute()
        return CompileJob(source, folder, key.text, self.config, directory, self.settings, self.defaults)


class Compilation:
    """One model that is to be compiled, or is being so."""

    def __init__(self, key: CompiledKey, original: Original, release_files: Callable[[], None]) -> None:
        self.key = key
        self.original = original
        self.release_files = release_files
        self.done = threading.Event()
        self.crash = ""
        """The signal that ended it while it tried the model as it is; to be read once it is done."""


class Compilations:
    """Those of one server. All methods may be called from any thread."""

    def __init__(self, store: QuietStore, environment: Mapping[str, str], most_at_once: int = _MOST_AT_ONCE) -> None:
        self._store = store
        self._environment = environment
        self._most_at_once = most_at_once
        self._lock = threading.Lock()
        self._under_way: dict[str, Compilation] = {}
        self._later: deque[Compilation] = deque()
        self._later_bytes = 0
        self._serving = self._catches_up = False

    def begin_serving(self) -> None:
        """From now on requests are answered; what was put off until now is compiled."""
        with self._lock:
            self._serving = True
            if self._catches_up or not self._later:
                return
            self._catches_up = True
        threading.Thread(target=self._catch_up, daemon=True).start()

    def ask(self, key: CompiledKey, original: Original, files: SharedFiles, patience_s: float) -> Compilation | None:
        """Have ``original`` compiled, by whoever begins with it first: now, and wait so long for it, if the server
        serves; else later. The compilation if it came to an end.

        Where too much is under way or put off it is left for another time.
        """
        with self._lock:
            serving = self._serving
            compilation = self._under_way.get(key.name)
            if compilation is None:
                if not (self._may_begin() if serving else self._may_wait(original)):
                    return None
                compilation = self._under_way[key.name] = Compilation(key, original, files.use())
                if serving:
                    threading.Thread(target=self._compile, args=(compilation, patience_s), daemon=True).start()
                else:
                    self._later.append(compilation)
        return compilation if serving and compilation.done.wait(patience_s) else None

    def _may_begin(self) -> bool:
        return len(self._under_way) - len(self._later) < self._most_at_once

    def _may_wait(self, original: Original) -> bool:
        """Whether its copy may stay until the server serves: all of them take half of the room that there was, and no
        more than will be kept of them, or the models that load next would find none for theirs.
        """
        folder = original.private.folder
        wanted_bytes = self._later_bytes + size_bytes(folder)
        with contextlib.suppress(OSError):
            if wanted_bytes <= min(self._store.store.limit_bytes, free_bytes(folder)):
                self._later_bytes = wanted_bytes
                return True
        return False

    def _catch_up(self) -> None:
        while True:
            with self._lock:
                if not self._later:
                    self._catches_up = False
                    return
                compilation = self._later.popleft()
            # Another process that is at it will not need us.
            self._compile(compilation, 0.0)

    def _compile(self, compilation: Compilation, wait_s: float) -> None:
        """Compile one model, unless it is done already or another process is still at it after ``wait_s``."""
        try:
            self._compile_in_turn(compilation, wait_s)
        except OSError as error:
            self._store.warn_once(error)
        # It has a thread of its own: whatever it was, who waits is to go on.
        except Exception:
            _log.exception("compiling a model failed in an unforeseen way")
        finally:
            compilation.release_files()
            with self._lock:
                del self._under_way[compilation.key.name]
            compilation.done.set()

    def _compile_in_turn(self, compilation: Compilation, wait_s: float) -> None:
        key, original, store = compilation.key, compilation.original, self._store.store
        source = original.private.source
        with store.turn(key, wait_s) as mine:
            if not mine or self._store.is_known(key) or not isinstance(source, Path):
                return
            with store.workplace(size_bytes(original.private.folder)) as place:
                making = compile_apart(original.job(source, key, place.folder), self._environment, _LIMIT_S)
                if making.outcome is Outcome.DESCRIBED:
                    store.admit(place, key)
        self._tell(compilation, making)

    def _tell(self, compilation: Compilation, making: Making) -> None:
        name = compilation.original.config.name
        if making.outcome is Outcome.NO_ROOM:
            self._store.warn_once(OSError(0, making.text))
        elif making.outcome is Outcome.CRASHED:
            compilation.crash = making.text
            _log.warning("model '%s' crashed ONNX Runtime (%s) while it was compiled", name, making.text)
        elif making.outcome is Outcome.FAILED:
            _log.info("model '%s' was not compiled: %s", name, making.text)
        else:
            self._tell_what_there_is(compilation.key, name)

    def _tell_what_there_is(self, key: CompiledKey, name: str) -> None:
        found = self._store.find(key)
        if isinstance(found, Refusal):
            _log.info("model '%s' is not kept compiled: %s", name, found.reason)
        elif isinstance(found, Held):
            found.release()
            _log.info("model '%s' is compiled; from now on it is mapped into memory", name)


def size_bytes(folder: Path) -> int:
    """A model's private copy with its external data."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
