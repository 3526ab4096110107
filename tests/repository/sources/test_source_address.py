import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import StartupError
from ortolan.repository.sources.source_address import (
    HubAddress,
    ObjectAddress,
    OciAddress,
    SourceAddress,
    WebAddress,
    parse_address,
)

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket", ObjectAddress("s3", "bucket")),
        ("s3://bucket/", ObjectAddress("s3", "bucket")),
        ("S3://bucket/a/b/", ObjectAddress("s3", "bucket", "a/b")),
        ("s3://host:9000/bucket/p", ObjectAddress("s3", "bucket", "p", endpoint="http://host:9000")),  # as Triton
        ("s3://http://host:9000/bucket/p", ObjectAddress("s3", "bucket", "p", endpoint="http://host:9000")),
        ("s3://https://host:9000/bucket", ObjectAddress("s3", "bucket", endpoint="https://host:9000")),
        ("s3://https://host/bucket/p", ObjectAddress("s3", "bucket", "p", endpoint="https://host")),
        ("gs://bucket/p", ObjectAddress("gs", "bucket", "p")),
        ("az://container/p", ObjectAddress("az", "container", "p")),
        ("as://account/container/p/q", ObjectAddress("az", "container", "p/q", account="account")),
        ("hf://owner/repo", HubAddress("owner/repo")),
        ("hf://owner/repo/onnx/model.onnx", HubAddress("owner/repo", "onnx/model.onnx")),
        ("hf://owner/repo@v1.0/onnx", HubAddress("owner/repo", "onnx", "v1.0")),
        ("hf://owner/repo@refs%2Fpr%2F1", HubAddress("owner/repo", "", "refs/pr/1")),
        ("oci://registry.example/team/digits:1.2", OciAddress("registry.example", "team/digits", "1.2")),
        ("oci://localhost:5000/digits", OciAddress("localhost:5000", "digits")),
        (f"oci://r/d@sha256:{DIGEST}", OciAddress("r", "d", f"sha256:{DIGEST}")),
        ("https://host/a/m.onnx", WebAddress("https://host/a/m.onnx")),
        ("https://host/m.onnx?sig=1", WebAddress("https://host/m.onnx?sig=1")),
        (f"https://host/m.onnx#sha256={DIGEST.upper()}", WebAddress("https://host/m.onnx", DIGEST)),
        ("http://127.0.0.1:80/models/", WebAddress("http://127.0.0.1:80/models/")),
    ],
)
def test_addresses_are_understood(text: str, address: SourceAddress) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "/models", "models", "./a:b", "C:\\models", "C:/models", "s3:/bucket", "a//b"])
def test_what_is_no_address_is_a_path(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://host/p", "models cannot be fetched from ftp:// addresses; those that can: s3, gs"),
        ("s3://", "the bucket's or container's name is missing"),
        ("s3:///p", "the bucket's or container's name is missing"),
        ("s3://bucket/a/../b", "empty, '.' or '..'"),
        ("s3://bucket/a//b", "empty, '.' or '..'"),
        ("s3://bucket/./b", "empty, '.' or '..'"),
        ("s3://bucket/a\\b", "a backslash or a control character"),
        ("s3://bucket/a\nb", "a backslash or a control character"),
        ("s3://bucket/a?X-Amz-Signature=secret", "a query is in it"),
        ("s3://key:secret@host:9000/bucket", "credentials are in it"),
        ("s3://secret@bucket/p", "credentials are in it"),
        ("s3://ho st:9000/bucket", "its host or port is wrong"),
        ("s3://host:9000", "the bucket's or container's name is missing"),
        ("az:///p", "the bucket's or container's name is missing"),
        ("as://account", "the bucket's or container's name is missing"),
        ("as:///container", "the name of the storage account is missing"),
        ("hf://owner", "its owner or repository is missing"),
        ("hf://owner/repo@", "its revision is missing"),
        ("hf://owner/repo@a..b", "its revision is missing or wrong"),
        ("hf://owner/../repo", "its owner or repository is missing or wrong"),
        ("hf://owner/repo/../x", "empty, '.' or '..'"),
        ("oci://registry", "its registry or repository is missing"),
        ("oci://user:secret@registry/r", "credentials are in it"),
        ("oci://registry/UPPER", "its registry or repository is missing or wrong"),
        ("oci://registry/r@sha256:secret", "its tag or digest is missing or wrong"),
        ("https://user:secret@host/m.onnx", "credentials are in it; they belong into ~/.netrc"),
        ("https:///m.onnx", "it has no host"),
        ("https://host:secret/m.onnx", "its host or port is wrong"),
        ("https://host/model.zip", "neither an .onnx file nor, ending in a slash, a directory"),
        ("https://host/%2e%2e/", "its last part can be no file's name"),
        ("https://host/a%2Fb.onnx", "its last part can be no file's name"),
        ("https://host/m.onnx#secret", "no sha256= with 64 hexadecimal digits"),
        (f"https://host/m/#sha256={DIGEST}", "a directory's hashes are in its SHA256SUMS"),
    ],
)
def test_what_is_wrong_with_an_address_is_told_without_its_secrets(text: str, said: str) -> None:
    with pytest.raises(StartupError) as error:
        parse_address(text)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("s3://bucket", "bucket", "s3://bucket"),
        ("s3://h:9/bucket/a/digits/", "digits", "s3://http://h:9/bucket/a/digits"),
        ("as://account/container/p", "p", "as://account/container/p"),
        ("gs://bucket/m.onnx", "m.onnx", "gs://bucket/m.onnx"),
        ("hf://o/repo@v1/onnx", "onnx", "hf://o/repo@v1/onnx"),
        ("oci://r/team/digits:1", "digits", "oci://r/team/digits:1"),
        ("https://host/a%20b.onnx?sig=secret", "a b.onnx", "https://host/a%20b.onnx"),
        ("https://host/", "host", "https://host/"),
        ("https://host/models/?sig=secret", "models", "https://host/models/"),
    ],
)
def test_an_address_has_a_name_for_its_files_and_is_shown_without_signatures(text: str, name: str, shown: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert (address.name, address.shown) == (name, shown)


@given(st.sampled_from(["s3", "gs", "az", "as", "hf", "oci", "https", "http"]), st.text(max_size=60))
def test_whatever_follows_the_scheme_is_an_address_with_a_plain_name_or_refused(scheme: str, rest: str) -> None:
    try:
        address = parse_address(f"{scheme}://{rest}")
    except StartupError:
        return
    assert address is not None
    assert address.name not in ("", ".", "..")
    assert not {"/", "\\", "\0"} & {*address.name}
