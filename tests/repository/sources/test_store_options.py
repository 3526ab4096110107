import json
from pathlib import Path

import pytest

from ortolan.errors import StartupError
from ortolan.repository.sources.source_address import ObjectAddress
from ortolan.repository.sources.store_options import store_options

S3 = ObjectAddress("s3", "bucket", "p")
GS = ObjectAddress("gs", "bucket", "p")
AZ = ObjectAddress("az", "container", "p", account="acc")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    aws = tmp_path / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text(
        "[default]\naws_access_key_id = dk\naws_secret_access_key = ds\n"
        "[work]\naws_access_key_id = wk\naws_secret_access_key = ws%\naws_session_token = wt\n"
    )
    (aws / "config").write_text("[default]\nregion = eu-west-1\n[profile work]\nregion = eu-north-1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        (S3, {}, {"region": "us-east-1"}),
        (S3, {"AWS_REGION": "eu-west-1"}, {"region": "eu-west-1"}),
        (S3, {"AWS_DEFAULT_REGION": "eu-west-1"}, {"region": "eu-west-1"}),
        (S3, {"AWS_ACCESS_KEY_ID": "k", "AWS_SESSION_TOKEN": "t"}, {"access_key_id": "k", "session_token": "t"}),
        (S3, {"AWS_ENDPOINT_URL": "https://h"}, {"region": "us-east-1", "endpoint": "https://h"}),
        (S3, {"AWS_ENDPOINT_URL": "https://h", "AWS_ENDPOINT_URL_S3": "http://s"}, {"endpoint": "http://s"}),
        (ObjectAddress("s3", "b", endpoint="http://a"), {"AWS_ENDPOINT_URL": "https://h"}, {"endpoint": "http://a"}),
        (GS, {}, {}),
        (GS, {"STORAGE_EMULATOR_HOST": "h:1"}, {"base_url": "http://h:1", "skip_signature": True}),
        (AZ, {}, {"account_name": "acc"}),
        (AZ, {"AZURE_STORAGE_ACCOUNT": "other", "AZURE_STORAGE_KEY": "k"}, {"account_name": "acc", "account_key": "k"}),
        (ObjectAddress("az", "c"), {"AZURE_STORAGE_ACCOUNT": "a"}, {"account_name": "a"}),
        (ObjectAddress("az", "c"), {"AZURE_STORAGE_ACCOUNT_NAME": "a"}, {}),
    ],
)
def test_what_the_environment_says(
    address: ObjectAddress, environment: dict[str, str], expected: dict[str, object]
) -> None:
    options = store_options(address, {"HOME": "/nowhere", **environment})
    assert {name: options[name] for name in expected} == expected
    assert expected.keys() | {"region"} >= options.keys()


def test_without_an_account_azure_is_told_what_to_write() -> None:
    with pytest.raises(StartupError, match="az://c/p does not say which storage account: set AZURE_STORAGE_ACCOUNT"):
        store_options(ObjectAddress("az", "c", "p"), {})


@pytest.mark.parametrize(
    ("environment", "key", "region"),
    [
        ({}, "dk", "eu-west-1"),
        ({"AWS_PROFILE": "work"}, "wk", "eu-north-1"),
        ({"AWS_PROFILE": "work", "AWS_REGION": "here"}, "wk", "here"),
        ({"AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "ek"}, "ek", "eu-north-1"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}, None, "eu-west-1"),
    ],
)
def test_keys_and_region_come_from_awss_files(
    home: Path, environment: dict[str, str], key: str | None, region: str | None
) -> None:
    options = store_options(S3, {"HOME": str(home), **environment})
    assert (options.get("access_key_id"), options.get("region")) == (key, region)


def test_a_profile_that_is_not_there_and_a_file_that_makes_no_sense_are_told(home: Path) -> None:
    with pytest.raises(StartupError, match="there is no AWS profile 'none'"):
        store_options(S3, {"HOME": str(home), "AWS_PROFILE": "none"})
    (home / ".aws" / "credentials").write_text("secret = nonsense")
    with pytest.raises(StartupError, match="cannot be read as AWS' files are written") as error:
        store_options(S3, {"HOME": str(home)})
    assert "secret" not in str(error.value)


TRITON = {
    "s3": {
        "": {"key_id": "any", "secret_key": "x"},
        "s3://bucket": {"key_id": "bucket", "secret_key": "x", "region": "r", "session_token": ""},
        "s3://bucket/p/q": {"key_id": "deep", "secret_key": "x"},
        "s3://profile": {"profile": "work"},
    },
    "gs": {"": "/keys/any.json", "gs://bucket": "/keys/bucket.json"},
    "as": {"as://acc/container": {"account_str": "acc", "account_key": "k"}},
}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (ObjectAddress("s3", "other"), {"access_key_id": "any", "region": "eu-west-1"}),
        (ObjectAddress("s3", "bucket"), {"access_key_id": "bucket", "region": "r"}),
        (ObjectAddress("s3", "bucket", "p/q/r"), {"access_key_id": "deep"}),
        (ObjectAddress("s3", "bucket-2"), {"access_key_id": "any"}),  # its name only begins like the other's
        (ObjectAddress("s3", "profile"), {"access_key_id": "wk", "region": "eu-north-1"}),
        (ObjectAddress("gs", "bucket", "p"), {"application_credentials": "/keys/bucket.json"}),
        (ObjectAddress("gs", "other"), {"application_credentials": "/keys/any.json"}),
        (AZ, {"account_name": "acc", "account_key": "k"}),
        (ObjectAddress("az", "container", account="third"), {"account_name": "third"}),
    ],
)
def test_tritons_file_has_credentials_for_several_stores(
    home: Path, address: ObjectAddress, expected: dict[str, str]
) -> None:
    path = home / "credentials.json"
    path.write_text(json.dumps(TRITON))
    options = store_options(address, {"HOME": str(home), "TRITON_CLOUD_CREDENTIAL_PATH": str(path)})
    assert {name: options.get(name) for name in expected} == expected


@pytest.mark.parametrize("content", ["", "[]", '{"s3": []}', '{"s3": secret}', "[" * 100_000])
def test_a_file_of_tritons_that_makes_no_sense_is_told_without_its_content(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(content)
    with pytest.raises(StartupError, match="TRITON_CLOUD_CREDENTIAL_PATH") as error:
        store_options(S3, {"HOME": "/nowhere", "TRITON_CLOUD_CREDENTIAL_PATH": str(path)})
    assert "secret" not in str(error.value)
