"""Taking a port, and saying which flag to change when it cannot be had."""

import errno
import socket
import sys

from ortolan.errors import StartupError

BACKLOG = 2048


def listening_socket(address: str, port: int, port_flag: str, shared: bool = False) -> socket.socket:
    """A socket that listens on ``address``:``port`` (0 picks a free port), for an event loop.

    ``shared``: other processes of the same user may listen there as well, and the system gives each connection to one.
    Raises StartupError naming the flag to change: ``port_flag`` where the port is taken, else that of the address.
    """
    try:
        return _bound(address, port, shared)
    # A host name that IDNA cannot encode raises UnicodeError before anything is asked.
    except (OSError, UnicodeError) as error:
        raise StartupError(_refusal(address, port, port_flag, error)) from None


def reserved_socket(address: str, port: int, port_flag: str) -> socket.socket:
    """A socket that holds ``address``:``port`` (0 picks a free port) for shared ones, and takes no connections.

    Raises StartupError as ``listening_socket`` does, also where other servers share the port already.
    """
    listening_socket(address, port, port_flag).close()
    try:
        return _bound(address, port, shared=True, listen=False)
    except OSError as error:
        raise StartupError(_refusal(address, port, port_flag, error)) from None


def why_not(address: str, port: int, port_flag: str) -> str:
    """Why ``address``:``port`` cannot be had, and what to do, for one that another library failed to bind."""
    try:
        _bound(address, port).close()
    except (OSError, UnicodeError) as error:
        return _refusal(address, port, port_flag, error)
    return f"cannot listen on {_text(address, port)}. Choose another port with {port_flag}, or 0 for a free one."


def _bound(address: str, port: int, shared: bool = False, listen: bool = True) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and sys.platform != "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address, port))
        # Listening is what fails when another process has the port in spite of SO_REUSEADDR.
        if listen:
            bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _refusal(address: str, port: int, port_flag: str, error: OSError | UnicodeError) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or "it is no address"
    said = f"cannot listen on {_text(address, port)}: {reason}."
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        waiting = "a server that is still stopping keeps its port"
        return f"{said} Choose another port with {port_flag}, or 0 for a free one; {waiting}."
    if code in (errno.EACCES, errno.EPERM):
        return f"{said} Choose a port above 1023 with {port_flag}, or 0 for a free one."
    return f"{said} Give {port_flag.removesuffix('port')}address an address of this machine."


def _text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
