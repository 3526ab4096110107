"""Which addresses keys may be fetched from: those where nobody can put other keys in their place (pure)."""

import ipaddress
from urllib.parse import SplitResult, urlsplit


def is_address(text: str) -> bool:
    """Whether ``text`` is meant as an address, and not as a file's path."""
    return "://" in text


def refuse_wrong_address(address: str) -> None:
    """Raises ValueError, whose text ends a sentence about the address, for one whose answers could be anybody's."""
    parts = _parts(address)
    if parts is None or not parts.hostname or parts.fragment:
        raise ValueError("is no address such as https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must carry no name and no password")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(address)):
        raise ValueError("must begin with https://; http:// is for this machine itself, such as http://127.0.0.1")


def is_loopback(address: str) -> bool:
    """Whether ``address`` leads to this machine."""
    parts = _parts(address)
    host = (parts.hostname if parts else None) or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(address: str) -> SplitResult | None:
    """None for what is no address at all."""
    if not address.isascii() or not address.isprintable() or " " in address:
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts
