import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_doors import until
from hypothesis import given
from hypothesis import strategies as st
from issuers import AUDIENCE, NOW_S, SigningKey, base64url, claims, compact, ec_key, ed_key, issuer, key_set, rsa_key

from ortolan.errors import StartupError
from ortolan.frontends.access.fresh_keys import Pace
from ortolan.frontends.access.grants import Scope, parse_grant
from ortolan.frontends.access.jwks import KeySet
from ortolan.frontends.access.token_claims import Accepted
from ortolan.frontends.access.token_options import TokenOptions
from ortolan.frontends.access.tokens import Tokens, VerifiedTokens

ISSUER = "https://issuer.test"
AT_ONCE = Pace(least_gap_s=0.0, first_retry_s=0.01, longest_retry_s=0.01)
RSA, EC, ED = rsa_key(), ec_key(), ed_key()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(RSA, EC, ED))
    return path


@pytest.fixture
async def tokens(key_file: Path) -> Tokens:
    return await started(TokenOptions(ISSUER, AUDIENCE, str(key_file)))


async def started(options: TokenOptions, pace: Pace = AT_ONCE) -> Tokens:
    tokens = Tokens(options, pace, clock=lambda: NOW_S)
    await tokens.start()
    return tokens


@asynccontextmanager
async def kept(tokens: Tokens) -> AsyncIterator[None]:
    """The keys of ``tokens`` are kept fresh meanwhile."""
    task = asyncio.create_task(tokens.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=10)


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=lambda key: key.algorithm)
async def test_a_token_of_the_issuer_for_this_server_is_known_until_it_expires(tokens: Tokens, key: SigningKey) -> None:
    token = key.token(claims(ISSUER, scope="openid ortolan:infer"))
    found = tokens.find(token, NOW_S)
    assert found is not None
    assert (found.holder, found.allows(Scope.INFER, "m"), found.holds([Scope.READ])) == ("jwt:alice", True, False)
    assert tokens.find(token, NOW_S + 1) is found
    # It was good until 600 s later, and clocks may be 30 s apart.
    assert tokens.find(token, NOW_S + 629) is found
    assert tokens.find(token, NOW_S + 630) is None


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_other_algorithms_count_when_the_operator_chose_them(key_file: Path, algorithm: str) -> None:
    token = SigningKey("r", algorithm, RSA.private).token(claims(ISSUER))
    assert (await started(TokenOptions(ISSUER, AUDIENCE, str(key_file)))).find(token, NOW_S) is None
    assert (await started(TokenOptions(ISSUER, AUDIENCE, str(key_file), (algorithm,)))).find(token, NOW_S) is not None


def unsigned(signed: bytes) -> bytes:
    return b""


def by_public_key(signed: bytes) -> bytes:
    pem = RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hmac.digest(pem, signed, "sha256")


STRANGER = rsa_key("r")
GOOD = claims(ISSUER)
FORGED = {
    "signed by somebody else": STRANGER.token(GOOD),
    "not signed": compact({"alg": "none"}, GOOD, unsigned) + "AA",
    "not signed, in another spelling": compact({"alg": "nOnE", "kid": "r"}, GOOD, unsigned) + "AA",
    "not signed, and without a signature": compact({"alg": "none"}, GOOD, unsigned),
    "signed with the public key as a secret": compact({"alg": "HS256", "kid": "r"}, GOOD, by_public_key),
    "a key of curves as if it were RSA's": EC.token(GOOD, alg="RS256"),
    "an RSA key as if it were a curve's": RSA.token(GOOD, alg="ES256"),
    "an algorithm that the key is not for": RSA.token(GOOD, kid="e"),
    "an algorithm that nobody chose": ec_key("e", "ES384").token(GOOD),
    "no algorithm": RSA.token(GOOD, alg=None),
    "an algorithm that is no text": RSA.token(GOOD, alg=["RS256"]),
    "an unknown key": RSA.token(GOOD, kid="another"),
    "a key's id that is no text": RSA.token(GOOD, kid=7),
    "a key of its own": STRANGER.token(GOOD, jwk=STRANGER.jwk()),
    "an address of keys of its own": STRANGER.token(GOOD, jku="http://127.0.0.1:9/keys"),
    "a certificate of its own": STRANGER.token(GOOD, x5u="http://127.0.0.1:9/c", x5c=["MAA="]),
    "extensions": RSA.token(GOOD, crit=["b64"], b64=False),
    "a token that ends sessions": RSA.token(GOOD, typ="logout+jwt"),
    "no claims": RSA.token(b"[]"),
    "no JSON": RSA.token(b"\xff"),
    "nested too deeply": RSA.token(b"[" * 9000),
    "a header nested too deeply": f"{base64url(b'[' * 9000)}.e30.AAAA",
    "a header that is no object": f"{base64url(b'7')}.e30.AAAA",
    "five parts": RSA.token(GOOD) + ".AA.AA",
    "padding": RSA.token(GOOD) + "=",
    "a signature of an odd length": RSA.token(GOOD)[:-1],
    "a claim changed": RSA.token(GOOD).replace(base64url(b'{"iss'), base64url(b'{"Iss'), 1),
    "too long": RSA.token({**GOOD, "more": "x" * 16_384}),
    "nothing": "",
    "two dots": "..",
    "not ASCII": RSA.token(GOOD).replace(".", "．"),
    "half a pair of surrogates": "\ud800.a.a",
    "digits of another script": "١.٢.٣",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
async def test_a_forged_token_is_refused(tokens: Tokens, token: str) -> None:
    assert tokens.find(token, NOW_S) is None
    # And still when a good one came before.
    assert tokens.find(RSA.token(GOOD), NOW_S) is not None
    assert tokens.find(token, NOW_S) is None


async def test_a_token_just_short_enough_is_taken(tokens: Tokens) -> None:
    token = RSA.token({**GOOD, "more": "x" * 11_000})
    assert 14_000 < len(token) <= 16_384
    assert tokens.find(token, NOW_S) is not None


@pytest.fixture(scope="module")
def known_tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """For Hypothesis, which shares fixtures among examples."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_bytes(key_set(RSA, EC, ED))
    return asyncio.run(started(TokenOptions(ISSUER, AUDIENCE, str(path))))


PARTS = st.one_of(
    st.text(max_size=30),
    st.binary(max_size=60).map(base64url),
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "iss", "aud", "exp", "scope"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.sampled_from(["RS256", "r", "JWT"])
            | st.text(),
            lambda children: st.lists(children, max_size=3),
            max_leaves=5,
        ),
    ).map(lambda value: base64url(jsonable(value))),
)


def jsonable(value: object) -> bytes:
    return json.dumps(value).encode()


@given(st.one_of(st.text(), st.lists(PARTS, min_size=1, max_size=5).map(".".join)))
def test_no_text_whatever_raises_anything(known_tokens: Tokens, text: str) -> None:
    assert known_tokens.find(text, NOW_S) is None


@given(st.data())
def test_no_claims_whatever_raise_anything(known_tokens: Tokens, data: st.DataObject) -> None:
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
        max_leaves=5,
    )
    changed = data.draw(st.dictionaries(st.sampled_from([*GOOD, "nbf", "scope", "scp", "cnf"]), anything, min_size=1))
    found = known_tokens.find(ED.token(jsonable({**GOOD, **changed})), NOW_S)
    assert found is None or found.holder.startswith("jwt:")


async def test_the_log_says_why_and_nothing_of_the_token(tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="ortolan")
    token = RSA.token(claims(ISSUER, aud="\x1b[31mother"), kid="r")
    assert tokens.find(token, NOW_S) is None
    [line] = [record.getMessage() for record in caplog.records]
    assert line == "a token was refused: it is not for 'ortolan'"
    assert tokens.find(RSA.token(GOOD, kid="\x1b[31mr\n"), NOW_S) is None
    assert "\\x1b[31mr\\n" in caplog.text
    assert all(part not in caplog.text for part in token.split("."))


async def test_discovery_finds_the_keys_where_the_issuer_says() -> None:
    with issuer() as server:
        server.publish(RSA)
        tokens = await started(TokenOptions(server.address, AUDIENCE))
        assert server.asked == ["/.well-known/openid-configuration", "/keys"]
        assert tokens.find(server.token(RSA), NOW_S) is not None


async def test_a_new_key_is_fetched_in_the_background_and_an_old_one_goes() -> None:
    old, new = ec_key("old"), ec_key("new")
    with issuer() as server:
        server.publish(old)
        tokens = await started(TokenOptions(server.address, AUDIENCE))
        before, after = server.token(old), server.token(new)
        assert tokens.find(before, NOW_S) is not None
        server.publish(new)
        async with kept(tokens):
            assert tokens.find(after, NOW_S) is None  # This is what has the key fetched.
            await until(lambda: tokens.find(after, NOW_S) is not None)
        # What is remembered goes with its key.
        assert tokens.find(before, NOW_S) is None


async def test_a_key_without_an_id_may_be_replaced_too() -> None:
    old, new = ec_key(None), ec_key(None)
    with issuer() as server:
        server.publish(old)
        tokens = await started(TokenOptions(server.address, AUDIENCE))
        assert tokens.find(server.token(old), NOW_S) is not None
        server.publish(new)
        async with kept(tokens):
            await until(lambda: tokens.find(server.token(new), NOW_S) is not None)


async def test_an_issuer_that_comes_later_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    with issuer() as server:
        tokens = await started(TokenOptions(server.address, AUDIENCE))
        assert "answers with HTTP status 404; until then tokens are refused" in caplog.text
        token = server.token(EC)
        assert tokens.find(token, NOW_S) is None
        async with kept(tokens):
            server.publish(EC)
            await until(lambda: tokens.find(token, NOW_S) is not None)
    assert caplog.text.count("until then") == 1


async def test_old_keys_count_for_a_day_when_there_are_no_newer_ones() -> None:
    with issuer() as server:
        server.publish(EC)
        tokens = await started(TokenOptions(server.address, AUDIENCE))
        token = server.token(EC, exp=NOW_S + 400_000)
        server.put("/keys", b"", 500)
        async with kept(tokens):
            assert tokens.find(server.token(ED), NOW_S) is None
            await until(lambda: len(server.asked) >= 6)
        assert tokens.find(token, NOW_S + 86_400) is not None
        assert tokens.find(token, NOW_S + 86_401) is None


async def test_a_file_of_keys_is_read_again_and_one_that_is_wrong_changes_nothing(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(refresh_s=0.01, longest_retry_s=0.01)
    tokens = await started(TokenOptions(ISSUER, AUDIENCE, str(key_file)), pace)
    token, other, write = EC.token(GOOD), STRANGER.token(GOOD), key_file.write_bytes
    async with kept(tokens):
        write(b"{")
        await until(lambda: "is no JSON; those that are known count for 24 h" in caplog.text)
        assert tokens.find(token, NOW_S) is not None
        assert tokens.find(other, NOW_S) is None
        write(key_set(STRANGER))
        await until(lambda: tokens.find(other, NOW_S) is not None)
        assert tokens.find(token, NOW_S) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "keys.json cannot be read: No such file"),
        (b"-----BEGIN PUBLIC KEY-----", "keys.json is no JSON"),
        (b'{"kty": "RSA"}', "keys.json is no set of keys"),
        (b" " * (2 << 20), "keys.json has more than 1 MiB"),
    ],
)
async def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError, match=said):
        await started(TokenOptions(ISSUER, AUDIENCE, str(path)))


def test_only_so_many_verified_tokens_are_remembered() -> None:
    keys, verified = KeySet(()), VerifiedTokens(most=2)
    grants = [Accepted(parse_grant(f"jwt:{number}", ["infer"]), 100.0) for number in range(3)]
    for number in (0, 1):
        assert verified.find(bytes([number]), keys, 0.0) is None
        verified.add(bytes([number]), grants[number])
    assert verified.find(b"\0", keys, 0.0) is grants[0]
    verified.add(b"\2", grants[2])
    # The one used longest ago went.
    assert [verified.find(bytes([number]), keys, 0.0) for number in range(3)] == [grants[0], None, grants[2]]
    assert verified.find(b"\0", keys, 100.0) is None
    assert verified.find(b"\2", KeySet((), ("another",)), 0.0) is None
