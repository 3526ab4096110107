"""Getting a small document from an address, within bounds: nothing is followed to anywhere else."""

import http.client
import ssl
import time
import urllib.error
import urllib.request

from ortolan.frontends.access.key_address import is_loopback
from ortolan.repository.sources.http_client import why_unreachable

_LARGEST_BYTES = 1 << 20
_CHUNK_BYTES = 64 << 10


class KeysUnavailable(Exception):
    """Why there are no keys to be had now: a sentence for the operator."""


def fetch(address: str, end_s: float) -> bytes:
    """The body of the answer to a GET, of 1 MiB at most, that has come when ``time.monotonic()`` is ``end_s``.

    Blocks. ``address`` is one that ``refuse_wrong_address`` lets pass. Certificates are checked; proxies are those of
    the environment, but never on the way to this machine itself. Raises KeysUnavailable.
    """
    shown = address.partition("?")[0]
    try:
        with _opener(address).open(address, timeout=_left_s(shown, end_s)) as response:
            parts, size = [], 0
            while chunk := response.read1(_CHUNK_BYTES):
                parts.append(chunk)
                size += len(chunk)
                if size > _LARGEST_BYTES:
                    raise KeysUnavailable(f"{shown} answers with more than {_LARGEST_BYTES >> 20} MiB")
                _left_s(shown, end_s)
            return b"".join(parts)
    except urllib.error.HTTPError as error:
        error.close()
        raise KeysUnavailable(f"{shown} answers with HTTP status {error.code}{_hint(error.code)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise KeysUnavailable(f"{shown} cannot be reached: {why_unreachable(error)}") from None


def _left_s(shown: str, end_s: float) -> float:
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        raise KeysUnavailable(f"{shown} does not answer in time")
    return left_s


def _opener(address: str) -> urllib.request.OpenerDirector:
    """One that knows neither redirects nor other schemes."""
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", "ortolan"), ("Accept", "application/json"), ("Accept-Encoding", "identity")]
    opener.add_handler(urllib.request.ProxyHandler({} if is_loopback(address) else None))
    if address.startswith("http://"):
        opener.add_handler(urllib.request.HTTPHandler())
    else:
        opener.add_handler(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    return opener


def _hint(status: int) -> str:
    return "; redirects are not followed, so give the address that they lead to" if 300 <= status < 400 else ""
