"""``ortolan api-key``: a key for a client, and its line for the server's file."""

import argparse

from ortolan.errors import StartupError


def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
    parser.add_argument("name", metavar="NAME", help="whose it is; the log and the file call it so")
    parser.add_argument(
        "--scopes",
        default="infer,read",
        help="infer, read, admin, infer@MODEL and so on, parted by commas; all: everything; default: infer,read",
    )
    parser.add_argument(
        "--file", help="the file of --api-keys-file, to put the line into; then only the key is printed"
    )
    return ["--scopes", "--file"]


def run(parsed: argparse.Namespace) -> int:
    from pathlib import Path

    from ortolan.frontends.access.api_keys import append_line, new_key

    scopes = [] if parsed.scopes == "all" else [scope.strip() for scope in parsed.scopes.split(",")]
    try:
        key, line = new_key(parsed.name, scopes)
        if parsed.file:
            append_line(Path(parsed.file), line)
    except ValueError as error:
        raise StartupError(f"api-key: {error}") from None
    shown = f"The key, which nothing shows again:\n  {key}\nThe line for the file of --api-keys-file:\n  {line}"
    print(key if parsed.file else shown)
    return 0
