"""``ortolan encrypt``: a model's file, encrypted."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
    parser.add_argument("model", metavar="MODEL", help="the .onnx file, with all weights inside")
    parser.add_argument("output", metavar="OUTPUT", help="the file to write, which takes the model's place")
    parser.add_argument("--key-file", required=True, help="the file with the key; of several, the first counts")
    return ["--key-file"]


def run(parsed: argparse.Namespace) -> int:
    from pathlib import Path

    from ortolan.repository.encrypting import encrypt_model

    encrypt_model(Path(parsed.model), Path(parsed.output), Path(parsed.key_file))
    return 0
