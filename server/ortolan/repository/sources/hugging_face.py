"""A repository on the Hugging Face Hub, by the two routes of it that are needed: which files, and their bytes.

What is listed is one commit, so that files fit together. The token comes from ``HF_TOKEN``, or from where the Hub's own
tools keep it; ``HF_ENDPOINT`` is another place that speaks the Hub's protocol.
"""

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ortolan.repository.sources.http_client import HttpClient, HttpStatus, same_origin
from ortolan.repository.sources.remote_file import Body, Digest, Listing, RemoteFile, SourceFailure
from ortolan.repository.sources.source_address import HubAddress

_HUB = "https://huggingface.co"
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_PAGES = 1000
# Weights of other frameworks, which lie beside those for ONNX and are no part of them.
_OTHERS = (
    "*.safetensors", "*.gguf", "*.ckpt", "*.pt", "*.pth", "*.tflite", "*.mlpackage/*", "pytorch_model*.bin",
    "tf_model*.h5", "flax_model*.msgpack", "rust_model.ot",
)  # fmt: skip


class HuggingFace:
    """All of a repository, or what is below a path in it."""

    def __init__(self, address: HubAddress, environment: Mapping[str, str], client: HttpClient) -> None:
        self._address = address
        self._client = client
        self._endpoint = (environment.get("HF_ENDPOINT") or _HUB).rstrip("/")
        token = hub_token(environment)
        self._authorization = f"Bearer {token}" if token else ""
        self._commit = ""

    def listing(self) -> Listing:
        self._commit = self._current_commit()
        path = self._address.path
        parent, _, _ = path.rpartition("/")
        if path.endswith(".onnx"):
            beside = [file for file in self._files(parent, recursive=False) if file.key.startswith(path)]
            if any(file.key == path for file in beside):
                return Listing(beside, is_single=True)
        files = [file for file in self._files(path, recursive=True) if not _is_of_others(file.path)]
        if not files:
            raise SourceFailure(f"{self._address.shown}: there is nothing at this address that could be served")
        return Listing(files)

    def read(self, file: RemoteFile, start: int) -> Body:
        url = f"{self._endpoint}/{self._address.repository}/resolve/{self._commit}/{quote(file.key)}"
        return self._client.body(url, start, authorization=self._authorization)

    def _current_commit(self) -> str:
        revision = quote(self._address.revision, safe="")
        try:
            told = self._get(f"/api/models/{self._address.repository}/revision/{revision}")[0]
        except HttpStatus as error:
            if error.status in (401, 403, 404):
                raise SourceFailure(
                    f"{self._address.shown}: there is no such repository or revision, or it is private (HTTP status "
                    f"{error.status}); HF_TOKEN opens private ones"
                ) from error
            raise
        commit = told.get("sha") if isinstance(told, dict) else None
        if not isinstance(commit, str) or _COMMIT.fullmatch(commit) is None:
            raise self._unexpected()
        return commit

    def _files(self, below: str, recursive: bool) -> list[RemoteFile]:
        path = f"/api/models/{self._address.repository}/tree/{self._commit}{f'/{quote(below)}' if below else ''}"
        document, following = self._get(f"{path}?recursive={'true' if recursive else 'false'}")
        files: list[RemoteFile] = []
        for _ in range(_MOST_PAGES):
            if not isinstance(document, list):
                raise self._unexpected()
            files += [self._file(entry, below) for entry in document if _is_file(entry)]
            if not following:
                return files
            document, following = self._get(following)
        raise SourceFailure(f"{self._address.shown} has too many files: name what is inside")

    def _get(self, path: str) -> tuple[Any, str]:
        """A document of the Hub, and the address of its next page."""
        url = path if path.startswith(("http://", "https://")) else self._endpoint + path
        if not same_origin(url, self._endpoint):
            raise self._unexpected()
        document, headers = self._client.json_and_headers(url, authorization=self._authorization)
        found = _NEXT.search(headers.get("Link", ""))
        return document, found[1] if found else ""

    def _file(self, entry: Mapping[str, Any], below: str) -> RemoteFile:
        try:
            path, large = str(entry["path"]), entry.get("lfs")
            hashed = str(large["oid"]) if large else str(entry["oid"])
            size = int(large["size"] if large else entry["size"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._unexpected() from error
        digest = Digest("sha256" if large else "git", hashed)
        return RemoteFile(path.removeprefix(f"{below}/" if below else ""), path, hashed, size, digest)

    def _unexpected(self) -> SourceFailure:
        return SourceFailure(f"{self._address.shown}: the Hub's answer is not as expected")


def hub_token(environment: Mapping[str, str]) -> str:
    """The user's token; "" without one."""
    if token := environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        return token.strip()
    cache = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or "~").expanduser() / ".cache")
    home = environment.get("HF_HOME") or f"{cache}/huggingface"
    try:
        return Path(environment.get("HF_TOKEN_PATH") or f"{home}/token").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_file(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("type") == "file"


def _is_of_others(path: str) -> bool:
    return any(fnmatch.fnmatchcase(path, other) or fnmatch.fnmatchcase(path.rpartition("/")[2], other)
               for other in _OTHERS)  # fmt: skip
