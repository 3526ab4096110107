"""Whether a configuration is an ensemble's, told without understanding it: one with a mistake may be one as well."""

import re
from pathlib import Path

from ortolan.repository.private_files import FileRefused, read_small

_LARGEST_BYTES = 4 << 20
_COMMENT = re.compile(rb"#[^\n]*")
_SIGN = re.compile(rb"\bplatform\s*:\s*[\"']ensemble[\"']|\bensemble_scheduling\b")


def is_of_ensemble(config: Path) -> bool:
    """Whether the file says that it is; not if it cannot be read."""
    try:
        text = read_small(config, _LARGEST_BYTES)
    except FileRefused:
        return False
    return _SIGN.search(_COMMENT.sub(b"", text)) is not None
