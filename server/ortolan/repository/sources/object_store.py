"""S3, Google Cloud Storage and Azure Blob Storage, through obstore."""

import re
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from ortolan.errors import StartupError
from ortolan.repository.file_names import directories_above
from ortolan.repository.sources.remote_file import (
    Body,
    Digest,
    Listing,
    NotThere,
    RemoteFile,
    SourceChanged,
    SourceFailure,
    SourceUnreachable,
    Stopped,
)
from ortolan.repository.sources.source_address import ObjectAddress
from ortolan.repository.sources.store_options import endpoint_of, store_options

_CONNECT_TIMEOUT = timedelta(seconds=5)
_READ_TIMEOUT = timedelta(seconds=20)
# Reads that stall end by the timeout above: this one would cut off whatever is large.
_WHOLE_TIMEOUT = timedelta(days=1)
_RETRY_TIMEOUT = timedelta(seconds=30)
_RETRIES = 3
_BACKOFF = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2}
_CHUNK_BYTES = 1 << 20
_MOST_OBJECTS = 100_000

_STATUS = re.compile(r"status code: ([1-5]\d\d)")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_ACCESS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY; AZURE_SKIP_SIGNATURE=true for a public container",
}


class ObjectStore:
    """What is below a prefix, or one object and those whose names go on from its own."""

    def __init__(self, address: ObjectAddress, environment: Mapping[str, str], stopping: threading.Event) -> None:
        """Raises StartupError when obstore is not installed, or the credentials are not as they should be."""
        self._address = address
        self._stopping = stopping
        self._store = _connected(address, environment)
        self._markers: dict[tuple[str, object, object], bool] = {}
        """Of each empty object, by its state: whether its name ends in a slash."""

    def listing(self) -> Listing:
        path = self._address.path
        if path.endswith(".onnx") and (beside := self._single(path)):
            return Listing(beside, is_single=True)
        below = f"{path}/" if path else ""
        metas = [meta for meta in self._list(path) if meta["path"].startswith(below)]
        markers = self._markers_among(metas)
        files = [_file(meta, below) for meta in metas if meta["path"] not in markers]
        if not files:
            raise SourceFailure(f"{self._address.shown}: there is nothing at this address")
        return Listing(files, directories=sorted(path.removeprefix(below) for path in markers))

    def read(self, file: RemoteFile, start: int) -> Body:
        options: dict[str, Any] = {"range": {"offset": start}} if start else {}
        etag = file.tag.partition(" ")[0]
        if etag:
            options["if_match"] = etag
        try:
            result = self._asked(lambda: self._store.get(file.key, options=options))
        except NotThere:
            # A marker may have come in the place of an empty file, within one tick of the store's clock.
            self._markers = {}
            raise
        return Body(start, self._chunks(result))

    def _single(self, path: str) -> list[RemoteFile]:
        """The object ``path`` and its external data; none when there is no such object."""
        parent, _, _ = path.rpartition("/")
        below = f"{parent}/" if parent else ""
        listed = self._asked(lambda: self._store.list_with_delimiter(parent or None)["objects"])
        files = [_file(meta, below) for meta in listed if meta["path"].startswith(path)]
        return files if any(file.key == path for file in files) else []

    def _list(self, prefix: str) -> list[Mapping[str, Any]]:
        metas: list[Mapping[str, Any]] = self._asked(lambda: list(self._collected(self._store.list(prefix or None))))
        return metas

    def _markers_among(self, metas: Sequence[Mapping[str, Any]]) -> set[str]:
        """The paths of the empty objects that stand for directories, as consoles make them: ``m/1/``.

        The client leaves out the slash that such names end in.
        """
        above = {parent for meta in metas for parent in directories_above(meta["path"])}
        empty = [meta for meta in metas if not meta["size"]]
        asked = {_state(meta): self._markers.get(_state(meta)) for meta in empty if meta["path"] not in above}
        self._markers = {state: self._is_marker(state[0]) if known is None else known for state, known in asked.items()}
        return {meta["path"] for meta in empty if meta["path"] in above or self._markers[_state(meta)]}

    def _is_marker(self, path: str) -> bool:
        """Whether there is no object of this name without a slash at its end."""
        try:
            self._asked(lambda: self._store.get(path))
        except NotThere:
            return True
        except SourceUnreachable:
            raise
        except SourceFailure:
            pass  # It is told when the object is fetched.
        return False

    def _collected(self, pages: Iterable[Iterable[Mapping[str, Any]]]) -> Iterable[Mapping[str, Any]]:
        count = 0
        for page in pages:
            for meta in page:
                count += 1
                yield meta
            if count > _MOST_OBJECTS:
                raise SourceFailure(f"{self._address.shown} has more than {_MOST_OBJECTS} objects: name what is inside")
            if self._stopping.is_set():
                raise Stopped("the server is stopping")

    def _chunks(self, result: Any) -> Generator[bytes, None, None]:
        chunks = iter(result.stream(min_chunk_size=_CHUNK_BYTES))
        while (chunk := self._asked(lambda: next(chunks, None))) is not None:
            if self._stopping.is_set():
                raise Stopped("the server is stopping")
            yield chunk

    def _asked(self, ask: Any) -> Any:
        """What ``ask`` returns. The client's errors quote URLs and keys: only what is known to be harmless is told."""
        from obstore.exceptions import BaseError

        try:
            return ask()
        # What is not there is told by Python's own error.
        except (BaseError, OSError) as error:
            raise _failure(self._address, type(error).__name__, str(error)) from None


def _connected(address: ObjectAddress, environment: Mapping[str, str]) -> Any:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise StartupError(
            f'{address.shown} needs the package obstore, which is not installed: pip install "ortolan[cloud]"'
        ) from None
    options = store_options(address, environment)
    endpoint = endpoint_of(address, environment)
    client = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": _CONNECT_TIMEOUT,
        "read_timeout": _READ_TIMEOUT,
        "timeout": _WHOLE_TIMEOUT,
        "user_agent": "ortolan",
    }
    retries = {"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT, "backoff": _BACKOFF}
    store: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[address.kind]
    try:
        return store(address.container, config=options, client_options=client, retry_config=retries)
    except BaseError:
        raise StartupError(f"{address.shown}: the credentials are not as they should be; {_hint(address)}") from None


def _file(meta: Mapping[str, Any], below: str) -> RemoteFile:
    key, etag = meta["path"], meta["e_tag"] or ""
    found = _MD5.fullmatch(etag)
    return RemoteFile(
        path=key.removeprefix(below),
        key=key,
        tag=f"{etag} {meta['version']}" if meta["version"] else etag,
        size_bytes=meta["size"],
        digest=Digest("md5", found[1], is_certain=False) if found else None,
    )


def _state(meta: Mapping[str, Any]) -> tuple[str, object, object]:
    """The object, and what is another whenever it was written again."""
    return meta["path"], meta["e_tag"], meta["last_modified"]


def _failure(address: ObjectAddress, kind: str, text: str) -> SourceFailure:
    """An error of the client's, by its kind and text, in words without keys, signatures and URLs."""
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    code = f" ({found[1]})" if (found := _CODE.search(text)) else ""
    if kind == "InvalidPathError":
        return SourceFailure(
            f"{address.shown}: the name of an object in it has an empty part, '.', '..' or a control character, and "
            "can be no file's name; rename the object"
        )
    if kind in ("PreconditionError", "NotModifiedError") or status == 416:
        return SourceChanged(f"{address.shown} changed while it was fetched")
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or status in (401, 403):
        return SourceFailure(f"{address.shown}: access is denied{code}; {_hint(address)}")
    if kind in ("NotFoundError", "FileNotFoundError") or status == 404:
        return NotThere(f"{address.shown}: there is no such thing{code}")
    if 300 <= status < 400 or "redirect" in text:
        return SourceFailure(f"{address.shown}: it is in another region{code}; set AWS_REGION")
    if 400 <= status < 500:
        return SourceFailure(f"{address.shown}: the request was refused with HTTP status {status}{code}")
    if status:
        return SourceUnreachable(f"{address.shown}: the store answers with HTTP status {status}{code}")
    return SourceUnreachable(f"{address.shown}: the store, or the place that gives out its credentials, is not reached")


def _hint(address: ObjectAddress) -> str:
    return f"set {_ACCESS[address.kind]}"
