"""A version's model whose file is encrypted: it is decrypted in memory, and nothing of it is written anywhere."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from ortolan.errors import InvalidArgument
from ortolan.execution.devices import Placement
from ortolan.execution.model_facts import FactsReader, ModelFacts
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.printable import printable
from ortolan.repository.encrypted_model import ModelKeys, NotDecryptable, decrypted
from ortolan.repository.external_data import NotWalkable, external_locations
from ortolan.repository.private_files import FileRefused

_SHOWN = 80
_ORT_FORMAT = b"ORTM"
# By parts of their names: with these set, a provider keeps what it made of the model in a file.
_WRITING = ("cache", "dump", "save", "ep_context", "ep.context", "optimized_model")
_OFF = ("", "0", "false", "off")
# It compiles from files, always.
_WRITING_PROVIDERS = frozenset({"CoreMLExecutionProvider"})


def decrypted_model(model_name: str, file: BinaryIO, keys: ModelKeys) -> tuple[bytes, ModelFacts]:
    """The content of the encrypted ``file`` of the model, and what is to be known of it.

    Raises FileRefused when it cannot be decrypted, InvalidArgument when its weights are in other files.
    """
    sha256 = hashlib.sha256()
    try:
        content = decrypted(file, keys, sha256.update)
    except NotDecryptable as reason:
        raise FileRefused(str(reason)) from reason
    reader = FactsReader()
    reader.update(content)
    if reader.names_files:
        _refuse_external_data(model_name, content)
    return content, replace(reader.facts(sha256.hexdigest()), confidential=True)


def refuse_writing(model_name: str, settings: SessionSettings, places: Sequence[Placement]) -> None:
    """Raises InvalidArgument when a session of an encrypted model would leave something of it in a file."""
    providers = [provider for place in places for provider in place.providers]
    if writing := _WRITING_PROVIDERS & {provider.name for provider in providers}:
        raise InvalidArgument(
            f"model '{model_name}' is encrypted, but {', '.join(writing)} writes models to files; let it run elsewhere"
        )
    options: list[Mapping[str, str]] = [settings.config_entries, settings.provider_options]
    options += [provider.options for provider in providers]
    for name, value in (pair for each in options for pair in each.items()):
        if str(value).lower() not in _OFF and any(part in name.lower() for part in _WRITING):
            raise InvalidArgument(
                f"model '{model_name}' is encrypted, but its option '{printable(name, _SHOWN)}' has parts of it "
                "written to a file; leave that option out"
            )


def _refuse_external_data(model_name: str, content: bytes) -> None:
    try:
        locations = external_locations(content)
    except NotWalkable as error:
        if content[4:8] == _ORT_FORMAT:
            return
        raise InvalidArgument(f"model '{model_name}' cannot be read: what is encrypted is no ONNX model") from error
    if locations:
        raise InvalidArgument(
            f"model '{model_name}' is encrypted, but has weights in other files, which is not supported: export it "
            "with all weights inside (up to 2 GB), and encrypt it again"
        )
