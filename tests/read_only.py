"""Model directories as platforms mount them: nothing is to be written there, or anywhere but in /tmp."""

from pathlib import Path

# Not even root can make a directory there, as in a container with a read-only root.
NOWHERE_TO_WRITE = {"HOME": "/proc/self/fd", "XDG_CACHE_HOME": "/proc/self/fd"}

Listing = dict[str, tuple[int, int]]


def protected(directory: Path) -> Path:
    """``directory`` without leave to write for anybody, where the tests do not run as root."""
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return directory


def listing(directory: Path) -> Listing:
    """Everything in it with size and time of change, to see that nothing is written."""
    return {
        str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in (directory, *directory.rglob("*"))
    }
