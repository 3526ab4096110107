"""The label file of an output: one label a line, the line's number is the index."""

from ortolan.errors import InvalidArgument
from ortolan.repository.file_names import stays_inside
from ortolan.repository.model_directory import ModelEntry


def read_labels(entry: ModelEntry, filename: str) -> tuple[str, ...]:
    """The labels in ``filename``, in the model's directory. Raises InvalidArgument when they cannot be read."""
    if not stays_inside(filename):
        raise InvalidArgument(
            f"model '{entry.name}': label_filename must be a relative name inside the model's directory"
        )
    try:
        return tuple((entry.directory / filename).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise InvalidArgument(
            f"model '{entry.name}': label_filename '{filename}' {reason}; it must be a text file beside config.pbtxt"
        ) from error
