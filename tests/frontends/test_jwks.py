import hmac
from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from issuers import SigningKey, base64url, ec_key, ed_key, rsa_key

from ortolan.frontends.access.jwks import parse_key_set

RSA, EC, ED = rsa_key(), ec_key(), ed_key()
EC384, EC521 = ec_key("f", "ES384"), ec_key("g", "ES512")
WEAK = rsa_key("w", bits=1024)


def document(*entries: object) -> bytes:
    return orjson.dumps({"keys": entries})


@pytest.mark.parametrize("key", [RSA, EC, EC384, EC521, ED], ids=lambda key: key.algorithm)
def test_a_key_verifies_what_was_signed_with_it_and_nothing_else(key: SigningKey) -> None:
    found = parse_key_set(document(key.jwk())).find(key.kid, key.algorithm)
    assert found is not None
    signed, _, signature = key.token(b"{}").rpartition(".")
    signature_bytes = decoded(signature)
    assert found.verifies(key.algorithm, signed.encode(), signature_bytes)
    assert not found.verifies(key.algorithm, signed.encode() + b"x", signature_bytes)
    assert not found.verifies(key.algorithm, signed.encode(), signature_bytes[1:])
    assert not found.verifies(key.algorithm, signed.encode(), b"")


def decoded(part: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(part + "==")


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (EC, {"ES256"}),
        (EC384, {"ES384"}),
        (EC521, {"ES512"}),
        (ED, {"EdDSA"}),
    ],
    ids=lambda value: value.algorithm if isinstance(value, SigningKey) else "",
)
def test_which_algorithms_a_key_is_for_is_said_by_the_key(key: SigningKey, algorithms: set[str]) -> None:
    [found] = parse_key_set(document(key.jwk())).keys
    assert found.algorithms == algorithms
    [named] = parse_key_set(document(key.jwk(alg=key.algorithm))).keys
    assert named.algorithms == {key.algorithm}
    # As a secret, a public key verifies nothing.
    assert not found.verifies("HS256", b"x", hmac.digest(b"", b"x", "sha256"))
    assert not found.verifies("none", b"x", b"")


def secret(key: SigningKey) -> dict[str, object]:
    return key.jwk(d=base64url(b"7" * 32))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (RSA.jwk(use="enc"), "'r' is not for signatures"),
        (RSA.jwk(key_ops=["encrypt"]), "'r' is not for signatures"),
        (RSA.jwk(key_ops="verify"), "'r' is not for signatures"),
        (RSA.jwk(alg="RSA-OAEP"), "'r' is of no type that verifies tokens here"),
        (RSA.jwk(alg="ES256"), "'r' is of no type"),
        (RSA.jwk(alg=["RS256"]), "'r' is of no type"),
        (RSA.jwk(n=7), "'r' is damaged"),
        (RSA.jwk(n="AQ"), "'r' is damaged"),
        (RSA.jwk(kid=7), "one without a kid has a kid that is no text"),
        (WEAK.jwk(), "'w' has 1024 bits, where 2048 are the least"),
        (secret(RSA), "'r' is a private key: whoever could read it can sign tokens"),
        (secret(ED), "'d' is a private key"),
        (EC.jwk(crv="P-384"), "'e' is damaged"),
        (EC.jwk(crv="secp256k1"), "'e' is of no type"),
        (EC.jwk(y=EC.jwk()["x"]), "'e' is damaged"),
        (ED.jwk(x="AA"), "'d' is damaged"),
        (ED.jwk(crv="X25519"), "'d' is of no type"),
        ({"kty": "oct", "k": base64url(b"7" * 32), "kid": "s"}, "'s' is of no type"),
        ({"kid": "\x1b[2J"}, "'\\x1b[2J' is of no type"),
        ({}, "one without a kid is of no type"),
        ("r", "one without a kid is no JSON object"),
    ],
)
def test_keys_that_cannot_be_used_are_left_out_and_named(entry: Mapping[str, object], said: str) -> None:
    found = parse_key_set(document(entry, EC.jwk(kid="good")))
    assert [key.kid for key in found.keys] == ["good"]
    [left_out] = found.left_out
    assert left_out.startswith(said)


def test_a_token_without_an_id_means_the_only_key_for_its_algorithm() -> None:
    other = ec_key("other")
    found = parse_key_set(document(RSA.jwk(), EC.jwk(), other.jwk(), ED.jwk()))
    assert (found.find(None, "RS256"), found.find(None, "EdDSA")) == (found.keys[0], found.keys[3])
    assert found.find(None, "ES256") is None
    assert found.find("other", "ES256") is found.keys[2]
    assert found.find("other", "RS256") is None


def test_a_key_without_an_id_is_not_the_one_that_a_token_names() -> None:
    found = parse_key_set(document(ec_key(None).jwk()))
    assert found.find(None, "ES256") is found.keys[0]
    assert found.find("e", "ES256") is None


def test_keys_of_different_types_may_have_the_same_id() -> None:
    found = parse_key_set(document(rsa_key("k").jwk(), ec_key("k").jwk()))
    assert found.find("k", "RS256") is found.keys[0]
    assert found.find("k", "ES256") is found.keys[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 5000, "is no JSON"),
        (b"[]", "is no set of keys"),
        (b"{}", "is no set of keys"),
        (b'{"keys": {}}', "is no set of keys"),
    ],
)
def test_what_is_no_set_of_keys_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_key_set(content)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=4,
)
MEMBERS = ["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops"]


@given(st.sampled_from([RSA, EC, ED]), st.dictionaries(st.sampled_from(MEMBERS), ANYTHING))
def test_no_key_whatever_raises_anything(key: SigningKey, changed: dict[str, object]) -> None:
    found = parse_key_set(document(key.jwk(**changed)))
    assert len(found.keys) + len(found.left_out) == 1
