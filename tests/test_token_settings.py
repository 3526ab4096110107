import os
import subprocess
import sys
from pathlib import Path

import pytest

from ortolan.errors import StartupError
from ortolan.frontends.access.token_options import TokenOptions
from ortolan.settings import Settings, read_settings
from ortolan.token_settings import token_options

GIVEN = {"jwt_issuer": "https://issuer.test", "jwt_audience": "ortolan"}


def options(**flags: str) -> TokenOptions | None:
    return token_options(read_settings({**GIVEN, **flags}, {}))


def test_without_an_issuer_no_tokens_are_taken() -> None:
    assert token_options(Settings()) is None


def test_an_issuer_and_an_audience_are_enough() -> None:
    assert options() == TokenOptions("https://issuer.test", "ortolan")


def test_every_choice_arrives() -> None:
    assert options(
        jwt_keys="/etc/keys.json",
        jwt_algorithms="PS256, ES384",
        jwt_scope_claim="roles",
        jwt_scope_prefix="x:",
        jwt_default_scopes="infer@digits, read",
        jwt_name_claim="email",
    ) == TokenOptions(
        "https://issuer.test",
        "ortolan",
        "/etc/keys.json",
        ("PS256", "ES384"),
        ("roles",),
        "x:",
        ("infer@digits", "read"),
        "email",
    )


def test_with_no_default_scopes_tokens_need_their_own() -> None:
    found = options(jwt_default_scopes="none")
    assert found is not None
    assert found.default_scopes == ()


def test_keys_from_a_file_leave_the_issuers_name_free() -> None:
    found = options(jwt_issuer="accounts.issuer.test", jwt_keys="keys.json")
    assert found is not None
    assert found.has_key_file


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"jwt_issuer": "https://i.test"}, "--jwt-issuer needs --jwt-audience"),
        ({"jwt_audience": "o"}, "--jwt-audience needs --jwt-issuer"),
        ({"jwt_keys": "keys.json"}, "--jwt-keys needs --jwt-issuer and --jwt-audience: no tokens are taken"),
        ({"jwt_default_scopes": "admin"}, "--jwt-default-scopes needs --jwt-issuer"),
        ({**GIVEN, "jwt_issuer": "http://issuer.test"}, "--jwt-issuer=http://issuer.test must begin with https://"),
        (
            {**GIVEN, "jwt_issuer": "issuer"},
            "--jwt-issuer=issuer is no address such as https://HOST/PATH, or --jwt-keys",
        ),
        ({**GIVEN, "jwt_keys": "http://i.test/k"}, "--jwt-keys=http://i.test/k must begin with https://"),
        ({**GIVEN, "jwt_keys": "file:///k"}, "--jwt-keys=file:///k is no address"),
        ({**GIVEN, "jwt_algorithms": "RS256,HS256"}, "--jwt-algorithms: with HS256, whoever can read the keys could"),
        ({**GIVEN, "jwt_algorithms": "hs512"}, "--jwt-algorithms: with hs512"),
        ({**GIVEN, "jwt_algorithms": "none"}, "--jwt-algorithms: with none"),
        ({**GIVEN, "jwt_algorithms": "rs256"}, "--jwt-algorithms: unknown algorithm 'rs256'; there are RS256"),
        ({**GIVEN, "jwt_algorithms": ","}, "--jwt-algorithms expects one of RS256"),
        ({**GIVEN, "jwt_default_scopes": "write"}, "--jwt-default-scopes: unknown scope 'write'"),
        ({**GIVEN, "jwt_default_scopes": ","}, "--jwt-default-scopes: unknown scope ''"),
        ({**GIVEN, "jwt_default_scopes": ""}, "--jwt-default-scopes: unknown scope ''"),
        ({**GIVEN, "jwt_scope_claim": ""}, "--jwt-scope-claim and --jwt-name-claim expect the name of a claim"),
        ({**GIVEN, "jwt_name_claim": ""}, "--jwt-scope-claim and --jwt-name-claim expect"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, str], said: str) -> None:
    with pytest.raises(StartupError) as refused:
        token_options(read_settings(flags, {}))
    assert str(refused.value).startswith(said)


def test_without_the_library_the_start_says_what_to_install(tmp_path: Path) -> None:
    # A directory in front of the library's, in a process of its own: what is there cannot be imported.
    (tmp_path / "jwt.py").write_text("raise ImportError('not installed')\n")
    script = (
        "from ortolan.frontends.access.token_options import TokenOptions\n"
        "from ortolan.frontends.access.tokens import Tokens\n"
        "from ortolan.errors import StartupError\n"
        "try:\n    Tokens(TokenOptions('https://i.test', 'o'))\n"
        "except StartupError as error:\n    print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip().endswith("pip install 'ortolan[oidc]'")
