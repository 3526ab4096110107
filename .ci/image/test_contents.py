"""What is in the image, what is not, and what it weighs."""

import json
import tarfile
from pathlib import PurePosixPath

import pytest
from built_image import Image, Say
from containers import Container
from workshop import Workshop

# The image that is best known for serving models; it has frameworks for training as well.
PEER_BYTES = 15e9
MOST_BYTES = 250e6
Names = set[PurePosixPath]


@pytest.fixture(scope="module")
def names(workshop: Workshop, image: Image) -> Names:
    """Every file of the image."""
    created = workshop.podman("create", image.tag).stdout.strip()
    archive = workshop.folder / "temporary" / "image.tar"
    workshop.podman("export", f"--output={archive}", created)
    workshop.podman("rm", created)
    with tarfile.open(archive) as tar:
        found = {PurePosixPath(member.name) for member in tar if not member.isdir()}
    archive.unlink()
    return found


def test_it_is_small(image: Image, say: Say) -> None:
    say(str(image))
    say(f"the best-known peer's 15 GB are {PEER_BYTES / image.size_bytes:.0f} times as much")
    assert image.size_bytes < MOST_BYTES


def test_its_only_programs_are_ortolan_and_python(names: Names) -> None:
    folders = ("bin", "sbin")
    programs = {name.name for name in names if name.parent.name in folders and name.suffix != ".py"}
    assert {program.rstrip("0123456789.") for program in programs} == {"ortolan", "python"}


def test_nothing_is_in_it_that_only_builds_and_tests_need(names: Names) -> None:
    of_builds = {"pip", "setuptools", "wheel", "hatchling", "ensurepip", "venv", "tests"}
    assert not {name for name in names if of_builds & {*name.parts}}
    assert not {name for name in names if name.suffix in {".pyi", ".pyx", ".h", ".a", ".cc"}}


def test_bytecode_stands_beside_each_source_and_without_one_nowhere(names: Names) -> None:
    sources = {name for name in names if name.suffix == ".py"}
    compiled = {name.parent.parent / f"{name.name.partition('.')[0]}.py" for name in names if name.suffix == ".pyc"}
    assert compiled == sources


def test_licences_are_in_it_and_the_packages_that_scanners_look_for(names: Names) -> None:
    # Packages of one source share a folder, by a link.
    described = {name.parts[3] for name in names if name.parts[:3] == ("usr", "share", "doc")}
    packages = {name.name for name in names if name.parent.name == "status.d"}
    assert {"libc6", "libssl3"} <= packages
    assert packages | {"ortolan"} <= described


def test_everything_that_is_in_it_can_be_imported(served: Container) -> None:
    """What was taken out was of no use, and no library is missing."""
    program = (
        "import importlib, importlib.metadata as m, onnx.version_converter;"
        "names = sorted(n for n in m.packages_distributions() if n.isidentifier() and n[0] != '_');"
        "[importlib.import_module(n) for n in names]; print(*names)"
    )
    imported = set(served.python(program).split())
    assert {"onnxruntime", "onnx", "numpy", "grpc", "fastapi", "obstore", "cryptography", "jwt", "ortolan"} <= imported


def test_authorities_of_the_web_are_known_in_it(served: Container) -> None:
    program = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    assert int(served.python(program)) > 50


def test_it_says_what_hosts_look_for(workshop: Workshop, image: Image) -> None:
    config = json.loads(workshop.podman("image", "inspect", image.tag).stdout)[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert not [value for value in config["Env"] if value.startswith("NVIDIA")]
