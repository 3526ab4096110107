"""Which source an address stands for."""

import threading
from collections.abc import Mapping

from ortolan.repository.sources.http_client import HttpClient
from ortolan.repository.sources.hugging_face import HuggingFace
from ortolan.repository.sources.object_store import ObjectStore
from ortolan.repository.sources.oci_registry import OciRegistry
from ortolan.repository.sources.remote_file import Source
from ortolan.repository.sources.source_address import HubAddress, ObjectAddress, OciAddress, SourceAddress, WebAddress
from ortolan.repository.sources.web_file import WebDirectory, WebFile


def open_source(address: SourceAddress, environment: Mapping[str, str], stopping: threading.Event) -> Source:
    """What is at ``address``; nothing is asked of it yet.

    ``environment`` has the credentials; ``stopping`` ends what is under way. Raises StartupError when a package or the
    credentials are not as they should be.
    """
    client = HttpClient(stopping)
    match address:
        case ObjectAddress():
            return ObjectStore(address, environment, stopping)
        case HubAddress():
            return HuggingFace(address, environment, client)
        case OciAddress():
            return OciRegistry(address, environment, client)
        case WebAddress(is_directory=True):
            return WebDirectory(address, environment, client)
        case WebAddress():
            return WebFile(address, environment, client)
