import pytest

from ortolan.access_options import certificate_grant
from ortolan.errors import StartupError
from ortolan.frontends.access.grants import Scope
from ortolan.settings import read_settings


@pytest.mark.parametrize(
    "asking",
    [
        {"api_keys_file": "keys"},
        {"jwt_issuer": "https://issuer.example", "jwt_audience": "ortolan"},
        {"tls_certificate": "c", "tls_key": "k", "tls_client_ca": "a"},
        {"grpc_use_ssl_mutual": "true", "grpc_server_cert": "c", "grpc_server_key": "k", "grpc_root_cert": "a"},
    ],
)
def test_administration_for_everybody_excludes_asking_who_they_are(asking: dict[str, str]) -> None:
    read_settings(asking, {})
    flag = "--" + next(iter(asking)).replace("_", "-")
    if "tls_client_ca" in asking:
        flag = "--tls-client-ca"
    with pytest.raises(StartupError, match=f"--admin-operations=open excludes {flag}"):
        read_settings({**asking, "admin_operations": "open"}, {})


@pytest.mark.parametrize(
    ("scopes", "held"),
    [
        ("infer,read", [True, True, False]),
        ("infer, admin", [True, False, True]),
        ("none", None),
        # The others are named one by one.
        ("auto", None),
    ],
)
def test_holders_of_certificates_have_the_scopes_of_the_flag(scopes: str, held: list[bool] | None) -> None:
    grant = certificate_grant(scopes, has_file=True)
    assert (grant and [grant.allows(scope, None) for scope in Scope]) == held


@pytest.mark.parametrize("scopes", ["", "infer,", "everything", "none,infer"])
def test_scopes_of_certificates_that_are_none_end_the_start(scopes: str) -> None:
    with pytest.raises(StartupError, match="--tls-client-scopes: unknown scope"):
        certificate_grant(scopes, has_file=True)


def test_without_a_file_that_names_them_all_certificates_may_infer_and_read() -> None:
    grant = certificate_grant("auto", has_file=False)
    assert grant is not None
    assert [grant.allows(scope, None) for scope in Scope] == [True, True, False]
