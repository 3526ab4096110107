"""What is known of each model and of its versions: states, reasons, what serves. Plain records without effects."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from ortolan.core.load_failure import Origin
from ortolan.core.reconciler import Fingerprint, PresentVersion
from ortolan.core.served_version import ServedVersion
from ortolan.core.version_state import VersionState, advanced
from ortolan.errors import InvalidArgument, NotFound, Unavailable
from ortolan.repository.file_contents import Digests, version_of
from ortolan.repository.file_names import is_golden_directory
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.model_directory import ModelEntry, VersionEntry

UNLOADED = "unloaded"
_LONGEST_VERSION = 20


@dataclass(slots=True)
class VersionRecord:
    """What is known of one version of a model."""

    state: VersionState = VersionState.UNKNOWN
    reason: str = ""
    fingerprint: Fingerprint = None
    failed_fingerprint: Fingerprint = None
    serving: ServedVersion | None = None
    lacks_memory: bool = False
    """Whether it failed to load because there was no room for it."""
    incomplete: bool = False
    """Whether it failed to load because its files may still be on their way."""
    was_listed: bool = False
    """Whether the repository ever had it; else it is one that a client made up."""
    size: tuple[int, int] | None = None
    """The bytes of its files, and those of memory that it was measured to need with them."""

    def advance(self, to: VersionState, reason: str = "") -> None:
        self.state = advanced(self.state, to)
        self.reason = reason

    @property
    def was_unloaded(self) -> bool:
        """Whether somebody wanted it unloaded, or a model that it needs; the reason may say more than the word."""
        return self.reason.startswith(UNLOADED)

    @property
    def is_amiss(self) -> bool:
        """Whether it should be ready and is not."""
        excused = self.was_unloaded or self.incomplete or self.state is VersionState.UNLOADING
        return self.serving is None and not excused

    @property
    def is_gone(self) -> bool:
        return self.state is VersionState.UNAVAILABLE and self.was_unloaded


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is to be loaded, as it is on disk or as a client sent it."""

    entry: ModelEntry
    config: ModelConfig
    version: VersionEntry
    override: str = ""
    """The text of the configuration, where that is not the file's."""
    digests: Digests = ()
    """The hashes of its files, where it is to be known whether files that changed have another content."""

    steps: tuple[str, ...] = ()
    """Of an ensemble: the models of its steps, by the names that they have here."""
    bound_to: tuple[object, ...] = ()
    """Of an ensemble: the identities of the versions of those models that are there now."""
    origin: Origin = Origin.REPOSITORY
    patience_s: float = 0.0
    """For how long its files may still be on their way, when they fail to load."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The version's own files and those that all versions share; what other versions have does not count."""
        own = str(self.version.number)
        files = tuple(fact for fact in self.digests or self.entry.fingerprint if version_of(fact[0]) in ("", own))
        return (self.version, files, self.override, self.bound_to)

    @property
    def file_bytes(self) -> int:
        """The sizes of the version's own files, without its golden requests."""
        own, bare = str(self.version.number), self.version.model_file is not None
        return sum(
            fact.size_bytes
            for fact in self.entry.fingerprint
            if (bare or version_of(fact.path) == own) and not any(map(is_golden_directory, fact.path.split("/")))
        )


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


@dataclass(slots=True)
class Model:
    """One model that was loaded, or was to be."""

    name: str
    versions: dict[int, VersionRecord] = field(default_factory=dict)
    problem: str = ""
    """Why nothing of it can be served: an unreadable configuration, no version."""
    incomplete: bool = False
    """Whether that is because its files may still be on their way."""
    overridden: bool = False
    """Whether it was loaded as a client said, so that what changes on disk does not concern it."""
    asked: bool = False
    """Whether somebody wants it by its name, and not only ensembles that need it."""
    uses: tuple[str, ...] = ()
    """Of an ensemble: the models that it needs."""
    ensemble: Mapping[int, Candidate] = field(default_factory=dict)
    """Of an ensemble: the versions that are wanted, to be looked at again when one of those models changes."""
    lost: bool = False
    """Of an ensemble: whether it cannot be served although nobody had a model that it needs unloaded."""
    dismissed: bool = False
    """Whether a client had it unloaded, or the server because it can do without."""
    attempt: object = None
    """For which what had failed was tried again last."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    holders: int = 0
    """How many are about to change it."""
    was_listed: bool = False
    """Whether the repository ever had it; else its name is one that a client made up."""
    newest: ServedVersion | None = None
    """The ready version with the highest number: the one that a request without a version gets."""

    def find(self, version: str) -> ServedVersion:
        """The ready version ``version``, or the newest one for "".

        Raises NotFound for versions that are not there and Unavailable for those that are not ready.
        """
        if not version:
            if self.newest is None:
                raise NotFound(f"Request for unknown model: '{self.name}' has no available versions{self._because()}")
            return self.newest
        record = self.versions.get(_version_number(version))
        if record is None:
            raise NotFound(f"Request for unknown model: '{self.name}' version {version} is not found")
        if record.serving is None:
            why = "" if record.reason in ("", UNLOADED) else f": {record.reason}"
            raise Unavailable(f"Request for unknown model: '{self.name}' version {version} is not at ready state{why}")
        return record.serving

    def _because(self) -> str:
        """Why nothing of it serves, as the end of a sentence; "" where there is nothing to say."""
        unloaded = [record.reason for _, record in sorted(self.versions.items()) if record.was_unloaded]
        told = self.failures or [reason for reason in unloaded[-1:] if reason != UNLOADED]
        return f": {'; '.join(told)}" if told else ""

    def serving(self) -> list[ServedVersion]:
        """The versions that are ready, by number."""
        return [record.serving for _, record in sorted(self.versions.items()) if record.serving is not None]

    def refresh_newest(self) -> None:
        ready = self.serving()
        self.newest = ready[-1] if ready else None

    def present(self) -> dict[int, PresentVersion]:
        """The versions as the reconciler sees them."""
        return {
            number: PresentVersion(record.state, record.fingerprint, record.failed_fingerprint)
            for number, record in self.versions.items()
        }

    @property
    def is_amiss(self) -> bool:
        """Whether it should be served and is not. It is as soon as any of its versions serves."""
        if self.newest is not None:
            return False
        cannot_be_read = bool(self.problem) and not self.incomplete
        return self.lost or cannot_be_read or any(record.is_amiss for record in self.versions.values())

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is left but the memory of it, and no one is about to change that."""
        wanted = self.holders or self.problem or self.ensemble
        return not wanted and all(record.is_gone for record in self.versions.values())

    @property
    def lacks_memory(self) -> bool:
        """Whether a version failed to load for no other reason than that there was no room for it."""
        return any(record.lacks_memory for record in self.versions.values())

    @property
    def failures(self) -> list[str]:
        """The reason of each version that is not as it should be."""
        found = [self.problem] if self.problem else []
        for number, record in sorted(self.versions.items()):
            if record.state is VersionState.UNAVAILABLE and not record.was_unloaded:
                found.append(f"version {number} is at UNAVAILABLE state: {record.reason}")
            elif record.state is VersionState.READY and record.reason:
                found.append(f"version {number} serves what it served before: {record.reason}")
        return found

    def index(self) -> list[IndexEntry]:
        """Its lines of the repository index: one for each version, or one for itself if it has none."""
        if self.versions:
            return [
                IndexEntry(self.name, str(number), record.state.value, self._reason(record))
                for number, record in sorted(self.versions.items())
            ]
        if self.problem:
            return [IndexEntry(self.name, "", VersionState.UNAVAILABLE.value, self.problem)]
        return [IndexEntry(self.name)]

    def _reason(self, record: VersionRecord) -> str:
        """Why the version is as it is; one that serves although its model cannot be read any more says that."""
        return record.reason or (self.problem if record.state is VersionState.READY else "")

    def forgive(self, wanted: Mapping[int, Fingerprint]) -> None:
        """Let go of the complaints about versions that nobody wants, and about newer files that are gone again."""
        for number, record in self.versions.items():
            if record.state is VersionState.UNAVAILABLE and number not in wanted:
                record.reason, record.failed_fingerprint, record.incomplete = UNLOADED, None, False
            elif record.state is VersionState.READY and wanted.get(number) == record.fingerprint:
                record.reason, record.failed_fingerprint, record.incomplete = "", None, False

    def forget_sent(self) -> None:
        """Forget the versions that are unloaded and were only ever sent: clients may make up any number of them."""
        for number, record in list(self.versions.items()):
            if record.is_gone and not record.was_listed:
                del self.versions[number]

    def forget_loaded(self) -> None:
        """Let what serves be loaded anew, whatever its files."""
        for record in self.versions.values():
            record.fingerprint = None

    def forget_failures(self, attempt: object) -> None:
        """Let what failed to load be tried again, once for each ``attempt``; None is none."""
        if attempt is None or attempt is self.attempt:
            return
        self.attempt = attempt
        for record in self.versions.values():
            record.failed_fingerprint = None


def _version_number(version: str) -> int:
    # int() alone takes signs, spaces, underscores and the digits of other scripts as well.
    if not (version.isascii() and version.isdecimal() and len(version) <= _LONGEST_VERSION):
        raise InvalidArgument(f"a model version is a whole number, got '{version[:32]}'")
    return int(version)
