"""What is said of a file that a link leads to from outside its model: where it is wrong, and nothing of what is in it.

Whoever writes a repository can link to files that only the server may read; a message that quotes them would hand them
out.
"""

import re

from ortolan.errors import InvalidArgument

NOT_SHOWN = "its text is not shown, because it lies outside the model's directory and the repository"

_LINE = re.compile(r"\bat line \d+|^line \d+")


def line_of(reason: str) -> str:
    """The line that ``reason`` names, as the end of a sentence; "" where it names none."""
    found = _LINE.search(reason)
    return f" at {found[0].removeprefix('at ')}" if found else ""


def config_refused(filename: str, model_name: str, error: InvalidArgument) -> InvalidArgument:
    """The error for a configuration from outside that ``error`` quotes."""
    # What the parser says ends in a line; a text that is not wrong in a line is refused as a whole.
    return InvalidArgument(
        f"{filename} of model '{model_name}' cannot be read as a configuration{line_of(error.message)}; {NOT_SHOWN}"
    )
