import orjson
import pytest
from issuers import AUDIENCE, NOW_S, claims

from ortolan.frontends.access.grants import Scope
from ortolan.frontends.access.token_claims import judge
from ortolan.frontends.access.token_options import TokenOptions
from ortolan.frontends.access.token_text import TokenRefused

ISSUER = "https://issuer.test/realm"
OPTIONS = TokenOptions(ISSUER, AUDIENCE)


def payload(**others: object) -> bytes:
    return orjson.dumps(claims(ISSUER, **others))


@pytest.mark.parametrize(
    "others",
    [
        {"aud": ["another", AUDIENCE]},
        {"exp": NOW_S - 29},
        {"exp": NOW_S + 0.5},
        {"nbf": NOW_S + 30, "iat": NOW_S + 30},
        {"iat": None, "sub": None},
        {"iat": 0},
        {"jti": "7", "azp": "somebody", "nested": {"a": [1]}},
    ],
)
def test_a_token_counts(others: dict[str, object]) -> None:
    assert judge(payload(**others), NOW_S, OPTIONS).until_s == others.get("exp", NOW_S + 600) + 30


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"iss": None}, "its issuer is no text, but NoneType"),
        ({"iss": "https://other.test"}, "its issuer is 'https://other.test', and not"),
        ({"iss": ISSUER + "/"}, "its issuer is"),
        ({"iss": [ISSUER]}, "its issuer is no text, but list"),
        ({"aud": None}, "it is not for 'ortolan'"),
        ({"aud": "ortolan2"}, "it is not for"),
        ({"aud": ["Ortolan", 7]}, "it is not for"),
        ({"aud": {"ortolan": 1}}, "it is not for"),
        ({"exp": None}, "it does not say when it expires"),
        ({"exp": NOW_S - 30}, "it expired 30 s ago"),
        ({"exp": str(NOW_S + 600)}, "its exp is no time"),
        ({"exp": True}, "its exp is no time"),
        ({"nbf": NOW_S + 31}, r"it is valid in 31 s only \(nbf\)"),
        ({"iat": NOW_S + 3600}, r"it is valid in 3600 s only \(iat\)"),
        ({"nbf": "now"}, "its nbf is no time"),
        ({"iat": [0]}, "its iat is no time"),
        ({"cnf": {"jkt": "x"}}, "it is bound to a key of its holder"),
        ({"scope": "ortolan:write"}, "none of its scopes that begin with 'ortolan:' is known here: 'write'"),
        ({"scope": "ortolan:"}, "none of its scopes"),
        ({"scope": "ortolan:infer@"}, "none of its scopes"),
        ({"scope": 7}, "its scope is neither text nor a list"),
        ({"scope": ["ortolan:infer", 7]}, "its scope is neither text nor a list"),
        ({"scp": {"ortolan:infer": 1}}, "its scp is neither text nor a list"),
    ],
)
def test_a_token_does_not_count(others: dict[str, object], said: str) -> None:
    with pytest.raises(TokenRefused, match=said):
        judge(payload(**others), NOW_S, OPTIONS)


INFER, READ, ADMIN = Scope.INFER, Scope.READ, Scope.ADMIN
BARE = {"scope_prefix": ""}


@pytest.mark.parametrize(
    ("others", "options", "held"),
    [
        ({}, {}, {INFER, READ}),  # the default
        ({"scope": ""}, {}, {INFER, READ}),
        ({"scope": None, "scp": []}, {}, {INFER, READ}),
        ({"scope": "openid profile"}, {}, {INFER, READ}),
        ({"scope": "admin"}, {}, {INFER, READ}),  # of whom, nobody knows
        ({"scope": "ortolan:read"}, {}, {READ}),
        ({"scope": "openid ortolan:admin ortolan:infer"}, {}, {ADMIN, INFER}),
        ({"scope": ["ortolan:read", "profile"]}, {}, {READ}),
        ({"scope": "ortolan:read ortolan:write"}, {}, {READ}),  # of what is not known nothing is given
        ({"scp": "ortolan:admin"}, {}, {ADMIN}),
        ({"scope": "ortolan:read", "scp": "ortolan:admin"}, {}, {READ}),
        ({"roles": ["ortolan:admin"]}, {}, {INFER, READ}),
        ({"roles": ["ortolan:admin"]}, {"scope_claims": ("roles",)}, {ADMIN}),
        ({"scp": "ortolan:admin"}, {"scope_claims": ("roles",)}, {INFER, READ}),
        ({"scope": "x:read"}, {"scope_prefix": "x:"}, {READ}),
        ({"scope": "ortolan:read"}, {"scope_prefix": "x:"}, {INFER, READ}),
        ({"scope": "openid read"}, BARE, {READ}),
        ({"scope": "openid"}, BARE, {INFER, READ}),
        ({}, {"default_scopes": ("read",)}, {READ}),
    ],
)
def test_what_a_token_may_do_is_what_its_scopes_for_this_server_say(
    others: dict[str, object], options: dict[str, object], held: set[Scope]
) -> None:
    chosen = TokenOptions(ISSUER, AUDIENCE, **options)  # type: ignore[arg-type]
    grant = judge(payload(**others), NOW_S, chosen).grant
    assert {scope for scope in Scope if grant.holds([scope])} == held


def test_scopes_may_be_for_some_models_only() -> None:
    grant = judge(payload(scope="ortolan:infer@resnet* ortolan:infer@digits"), NOW_S, OPTIONS).grant
    assert [grant.allows(INFER, model) for model in ("resnet50", "digits", "bert", None)] == [True, True, False, False]


def test_without_defaults_a_token_needs_scopes() -> None:
    options = TokenOptions(ISSUER, AUDIENCE, default_scopes=())
    with pytest.raises(TokenRefused, match="it has no scope that begins with 'ortolan:'"):
        judge(payload(scope="openid"), NOW_S, options)
    assert judge(payload(scope="ortolan:read"), NOW_S, options).grant.holds([READ])


@pytest.mark.parametrize(
    ("others", "claim", "holder"),
    [
        ({}, "sub", "jwt:alice"),
        ({"email": "a@b.test"}, "email", "jwt:a@b.test"),
        ({"sub": None}, "sub", "jwt:somebody"),
        ({"sub": ["alice"]}, "sub", "jwt:somebody"),
        ({"sub": "a\r\nb\x1b[2J"}, "sub", "jwt:a\\r\\nb\\x1b[2J"),
        ({"sub": "a" * 1000}, "sub", f"jwt:{'a' * 128}..."),
    ],
)
def test_the_holder_has_a_name_for_the_log(others: dict[str, object], claim: str, holder: str) -> None:
    options = TokenOptions(ISSUER, AUDIENCE, name_claim=claim)
    assert judge(payload(**others), NOW_S, options).grant.holder == holder
