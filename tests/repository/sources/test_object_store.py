"""Against moto's server (S3, and Google's XML interface for reading) and Azurite, where it is installed."""

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import object_stores
import pytest
from file_servers import FileServer, serving
from object_stores import KEYS, Store

from ortolan.errors import StartupError
from ortolan.repository.sources.download import Downloads
from ortolan.repository.sources.object_store import ObjectStore
from ortolan.repository.sources.remote_file import (
    Corrupt,
    Digest,
    NotThere,
    RemoteFile,
    SourceChanged,
    SourceFailure,
    SourceUnreachable,
)
from ortolan.repository.sources.source_address import ObjectAddress

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks


@pytest.fixture(scope="module")
def s3() -> Iterator[Store]:
    with object_stores.s3() as store:
        store.client.create_bucket(Bucket="models")
        put = store.client.put_object
        put(Bucket="models", Key="repo/digits/1/model.onnx", Body=CONTENT, ACL="public-read")
        put(Bucket="models", Key="repo/digits/config.pbtxt", Body=b"")
        put(Bucket="models", Key="repo/digits/", Body=b"")
        put(Bucket="models", Key="repo/a b+ü%2F.txt", Body=b"odd")
        put(Bucket="models", Key="repository/other.txt", Body=b"its name begins alike")
        put(Bucket="models", Key="single/one.onnx", Body=b"one")
        put(Bucket="models", Key="single/one.onnx_data", Body=b"data")
        put(Bucket="models", Key="single/two.onnx", Body=b"two")
        yield store


def store_at(url: str, path: str) -> ObjectStore:
    address = ObjectAddress("s3", "models", path, endpoint=url)
    return ObjectStore(address, {**KEYS, "HOME": "/nowhere"}, threading.Event())


def test_everything_below_a_prefix_is_listed_with_sizes_and_hashes(s3: Store) -> None:
    listing = store_at(s3.url, "repo").listing()
    assert not listing.is_single
    found = {file.path: file.size_bytes for file in listing.files}
    assert found == {"digits/1/model.onnx": len(CONTENT), "digits/config.pbtxt": 0, "a b+ü%2F.txt": 3}
    by_path = {file.path: file for file in listing.files}
    assert by_path["digits/config.pbtxt"].digest == Digest("md5", "d41d8cd98f00b204e9800998ecf8427e", is_certain=False)


def test_empty_objects_that_stand_for_directories_are_no_files(s3: Store) -> None:
    for key in ("marked/m/", "marked/m/1/", "marked/m/config.pbtxt", "marked/m/labels.txt"):
        s3.client.put_object(Bucket="models", Key=key, Body=b"")
    store = store_at(s3.url, "marked")
    for _ in range(2):
        listing = store.listing()
        assert {file.path: file.size_bytes for file in listing.files} == {"m/config.pbtxt": 0, "m/labels.txt": 0}
        assert listing.directories == ["m", "m/1"]


def test_a_marker_and_a_file_in_turn_under_one_name_are_told_apart(s3: Store) -> None:
    store = store_at(s3.url, "turns")
    s3.client.put_object(Bucket="models", Key="turns/config.pbtxt", Body=b"x")
    s3.client.put_object(Bucket="models", Key="turns/1", Body=b"")
    assert [file.path for file in store.listing().files] == ["1", "config.pbtxt"]
    s3.client.delete_object(Bucket="models", Key="turns/1")
    s3.client.put_object(Bucket="models", Key="turns/1/", Body=b"")
    store.listing()  # within a second of the one before, it looks as if it was the same object
    with pytest.raises(NotThere):
        store.read(RemoteFile("1", "turns/1", ""), 0)
    listing = store.listing()
    assert ([file.path for file in listing.files], listing.directories) == (["config.pbtxt"], ["1"])


def test_an_object_that_is_gone_is_told_in_a_line_without_what_the_store_sent(s3: Store) -> None:
    with pytest.raises(NotThere) as error:
        store_at(s3.url, "repo").read(RemoteFile("gone", "repo/gone", "", 3), 0)
    assert str(error.value) == f"s3://{s3.url}/models/repo: there is no such thing (NoSuchKey)"


def test_a_single_model_comes_with_its_external_data(s3: Store) -> None:
    listing = store_at(s3.url, "single/one.onnx").listing()
    assert listing.is_single
    assert sorted(file.path for file in listing.files) == ["one.onnx", "one.onnx_data"]


@pytest.mark.parametrize("start", [0, 1, 3_000_000])
def test_an_object_is_read_from_any_byte_on(s3: Store, start: int) -> None:
    store = store_at(s3.url, "repo")
    file = next(file for file in store.listing().files if file.path == "digits/1/model.onnx")
    body = store.read(file, start)
    assert (body.start, b"".join(body.chunks)) == (start, CONTENT[start:])


def test_names_are_taken_as_they_are(s3: Store) -> None:
    store = store_at(s3.url, "repo")
    file = next(file for file in store.listing().files if file.path.startswith("a b"))
    assert b"".join(store.read(file, 0).chunks) == b"odd"


def test_an_object_that_changed_since_it_was_listed_is_not_read(s3: Store) -> None:
    store = store_at(s3.url, "repo")
    file = next(file for file in store.listing().files if file.path == "digits/1/model.onnx")
    with pytest.raises(SourceChanged):
        store.read(RemoteFile(file.path, file.key, '"0123456789abcdef0123456789abcdef"'), 0)


@pytest.mark.parametrize("key", ["odd/../evil", "odd//double", "odd/a/./b", "odd/control\x01"])
def test_a_key_that_is_no_path_is_refused(s3: Store, key: str) -> None:
    s3.client.put_object(Bucket="models", Key=key, Body=b"x")
    try:
        with pytest.raises(SourceFailure, match="can be no file's name; rename the object"):
            store_at(s3.url, "odd").listing()
    finally:
        s3.client.delete_object(Bucket="models", Key=key)


def test_what_is_not_there_is_told(s3: Store) -> None:
    with pytest.raises(SourceFailure, match="there is nothing at this address"):
        store_at(s3.url, "nothing").listing()
    with pytest.raises(SourceFailure, match="there is nothing at this address"):
        store_at(s3.url, "single/three.onnx").listing()
    address = ObjectAddress("s3", "no-such-bucket", endpoint=s3.url)
    with pytest.raises(SourceFailure, match=r"there is no such thing \(NoSuchBucket\)"):
        ObjectStore(address, {**KEYS, "HOME": "/nowhere"}, threading.Event()).listing()


def test_a_store_that_is_not_there_is_told_soon_and_without_keys() -> None:
    began = time.monotonic()
    with pytest.raises(SourceUnreachable, match="is not reached") as error:
        store_at("http://127.0.0.1:9", "repo").listing()
    assert time.monotonic() - began < 20
    assert "do-not-show-me" not in str(error.value)
    assert "tester" not in str(error.value)


def test_gs_lists_and_reads(s3: Store) -> None:
    environment = {"STORAGE_EMULATOR_HOST": s3.host}
    store = ObjectStore(ObjectAddress("gs", "models", "repo"), environment, threading.Event())
    file = next(file for file in store.listing().files if file.path == "digits/1/model.onnx")
    assert b"".join(store.read(file, 4_000_000).chunks) == CONTENT[4_000_000:]


def test_az_lists_and_reads(tmp_path: Path) -> None:
    with object_stores.azure(tmp_path) as azurite:
        container = azurite.client("models")
        create_container(azurite)
        container.put("repo/m/1/model.onnx", CONTENT)
        container.put("repo/m.onnx", b"loose")
        address = ObjectAddress("az", "models", "repo", account=object_stores.AZURITE_ACCOUNT)
        store = ObjectStore(address, azurite.environment, threading.Event())
        files = {file.path: file for file in store.listing().files}
        assert {path: file.size_bytes for path, file in files.items()} == {"m/1/model.onnx": len(CONTENT), "m.onnx": 5}
        assert b"".join(store.read(files["m/1/model.onnx"], 4_000_000).chunks) == CONTENT[4_000_000:]
        container.put("repo/m.onnx", b"other")
        with pytest.raises(SourceChanged):
            store.read(files["m.onnx"], 0)
        with pytest.raises(SourceFailure, match="access is denied"):
            ObjectStore(address, {**azurite.environment, "AZURE_STORAGE_KEY": "d3Jvbmc="}, threading.Event()).listing()


def create_container(azurite: Store) -> None:
    """obstore makes no containers: a signed request does."""
    import base64
    import email.utils
    import hashlib
    import hmac
    from urllib.request import Request, urlopen

    account = object_stores.AZURITE_ACCOUNT
    date = email.utils.formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    resource = f"/{account}/{account}/models\nrestype:container"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}{resource}"
    signed = hmac.new(base64.b64decode(object_stores.AZURITE_KEY), text.encode(), hashlib.sha256).digest()
    request = Request(f"{azurite.url}/models?restype=container", method="PUT", data=b"")  # noqa: S310
    request.add_header("x-ms-date", date)
    request.add_header("x-ms-version", "2021-08-06")
    request.add_header("Content-Type", "")
    request.add_header("Authorization", f"SharedKey {account}:{base64.b64encode(signed).decode()}")
    with urlopen(request, timeout=10):  # noqa: S310
        pass


def test_credentials_that_are_none_are_told_without_their_text() -> None:
    pytest.importorskip("obstore")
    environment = {"AZURE_STORAGE_KEY": "do not show me!", "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9/acc"}
    with pytest.raises(StartupError, match="the credentials are not as they should be") as error:
        ObjectStore(ObjectAddress("az", "c", account="acc"), environment, threading.Event())
    assert "do not show me" not in str(error.value)


def test_what_a_store_sends_spoilt_is_noticed_by_its_etag(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'  # noqa: S324 - as stores use it
    listed = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>repo/m.onnx</Key><ETag>"
        f"{etag}</ETag><Size>{len(CONTENT)}</Size><LastModified>2026-01-05T10:00:00.000Z</LastModified></Contents>"
        "</ListBucketResult>"
    )
    files = {"/models?list-type=2&prefix=repo%2F": listed.encode(), "/models/repo/m.onnx": CONTENT}
    headers = {"/models/repo/m.onnx": {"ETag": etag, "Last-Modified": "Mon, 05 Jan 2026 10:00:00 GMT"}}
    with serving(FileServer(files, headers=headers, has_etags=False)) as server:
        store = store_at(server.url, "repo")
        (file,) = store.listing().files
        downloads = Downloads(store, tmp_path, threading.Event(), first_delay_s=0.001)
        server.spoil = [1000]
        assert downloads.fetch(file, lambda _: None).partial.read_bytes() == CONTENT
        (tmp_path / downloads.fetch(file, lambda _: None).partial.name).unlink()
        server.spoil = [1000, 2000]
        with pytest.raises(Corrupt):
            downloads.fetch(file, lambda _: None)
