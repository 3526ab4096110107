"""The protocol's message definitions, compiled into the one descriptor set that the server loads.

``python protos/compile.py`` writes it; ``python protos/compile.py --check`` exits with 1 where it is stale. Needs
grpcio-tools, which the server itself does not.
"""

import argparse
import sys
import tempfile
from pathlib import Path

SOURCES = ("model_config.proto", "grpc_service.proto", "health.proto")
PROTOS = Path(__file__).resolve().parent
DESCRIPTOR_SET = PROTOS.parent / "server" / "ortolan" / "protocol" / "open_inference.binpb"


def main(arguments: list[str]) -> int:
    """The exit code: 0 when the descriptor set is written or, with ``--check``, up to date."""
    parser = argparse.ArgumentParser(description="Compile protos/*.proto into the server's descriptor set.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file is stale")
    check = parser.parse_args(arguments).check
    compiled = compiled_descriptor_set()
    if not check:
        DESCRIPTOR_SET.write_bytes(compiled)
        return 0
    if DESCRIPTOR_SET.is_file() and DESCRIPTOR_SET.read_bytes() == compiled:
        return 0
    print(f"{DESCRIPTOR_SET.name} is not what protos/*.proto say: run `make protos`", file=sys.stderr)
    return 1


def compiled_descriptor_set() -> bytes:
    """A serialized FileDescriptorSet of every source, each after the files it imports, without comments or positions.

    Raises RuntimeError when the compiler refuses a source; it has printed the reason to stderr by then.
    """
    # Imported here so that the module can be loaded, and its absence be reported, without grpcio-tools.
    from grpc_tools import protoc  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / DESCRIPTOR_SET.name
        status = protoc.main(
            ["protoc", f"--proto_path={PROTOS}", "--include_imports", f"--descriptor_set_out={output}", *SOURCES]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}")
        return output.read_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
