"""The label file of an output: one label a line, the line's number is the index."""

from ortolan.errors import InvalidArgument
from ortolan.repository.file_names import stays_inside
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.private_files import FileRefused, read_inside


def read_labels(entry: ModelEntry, filename: str) -> tuple[str, ...]:
    """The labels in ``filename``, in the model's directory. Raises InvalidArgument when they cannot be read."""
    if not stays_inside(filename):
        raise InvalidArgument(
            f"model '{entry.name}': label_filename must be a relative name inside the model's directory"
        )
    try:
        # What is in it is shown to clients, so it has to be a file of the model's own.
        content = read_inside(entry.directory / filename, entry.directory)
        return tuple(content.decode("utf-8").splitlines())
    except (FileRefused, UnicodeDecodeError) as error:
        reason = error if isinstance(error, FileRefused) else "is not UTF-8 text"
        raise InvalidArgument(
            f"model '{entry.name}': label_filename '{filename}' {reason}; it must be a text file beside config.pbtxt"
        ) from error
