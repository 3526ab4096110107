import hashlib
import logging
import os
from pathlib import Path

import pytest

from ortolan.errors import StartupError
from ortolan.frontends.access.api_keys import ApiKeys, append_line, new_key, parse_key_file
from ortolan.frontends.access.grants import Scope
from ortolan.frontends.tls.identity import PeerIdentity

DIGEST = hashlib.sha256(b"secret").hexdigest()


def line(name: str, key: str, scopes: str = "") -> str:
    return f"{name}:sha256:{hashlib.sha256(key.encode()).hexdigest()}{scopes}\n"


def written(path: Path, text: str) -> Path:
    """Written beside and moved there, as Kubernetes and careful people do."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)
    return path


def test_a_key_is_found_by_itself_only(tmp_path: Path) -> None:
    text = "# the team's\n\n" + line("all", "secret") + line("reader", "other", ":read,infer@a*")
    keys = ApiKeys(written(tmp_path / "keys", text))
    found = keys.find("secret")
    assert found is not None
    assert (found.holder, found.allows(Scope.ADMIN, None)) == ("all", True)
    reader = keys.find("other")
    assert reader is not None
    assert [reader.allows(scope, "b") for scope in Scope] == [False, True, False]
    for wrong in ("", "Secret", "secret ", DIGEST, "all", "sécret", "s" * 100_000):
        assert keys.find(wrong) is None


def test_certificates_are_found_by_the_first_of_their_names_that_is_there(tmp_path: Path) -> None:
    text = "edge:certificate:spiffe%3A//x/edge:infer\ncommon:certificate:edge.example:read\n"
    keys = ApiKeys(written(tmp_path / "keys", text))
    found = keys.find_identity(PeerIdentity(("nobody", "spiffe://x/edge", "edge.example")))
    assert found is not None
    assert found.holder == "edge"
    assert keys.find_identity(PeerIdentity(("spiffe", "EDGE.example"))) is None
    # A certificate's name is no key.
    assert keys.find("edge.example") is None


def test_names_of_models_may_have_colons() -> None:
    ((_, grant),) = parse_key_file(f"a:sha256:{DIGEST}:infer@east%3A%3Am").by_hash.values()
    assert grant.allows(Scope.INFER, "east::m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("secret", "line 1: expected NAME:sha256:HEX"),
        (f"\na:sha256:{DIGEST[:-1]}", "line 2: the SHA-256 of 'a' is not 64 hexadecimal digits"),
        (f"a:md5:{DIGEST}", "line 1: expected NAME:sha256:HEX"),
        (f"a b:sha256:{DIGEST}", "a NAME has up to 64 letters"),
        (f":sha256:{DIGEST}", "a NAME has up to 64 letters"),
        (f"a:sha256:{DIGEST}:write", "line 1: unknown scope 'write'"),
        # A forgotten scope must not come to all of them.
        (f"a:sha256:{DIGEST}:", "line 1: a scope is empty"),
        (f"a:sha256:{DIGEST}:infer,", "line 1: a scope is empty"),
        (f"a:sha256:{DIGEST}\na:sha256:{'0' * 64}", "line 2: the name 'a' is there twice"),
        (f"a:sha256:{DIGEST}\nb:sha256:{DIGEST.upper()}", "line 2: 'b' has the same key or identity as 'a'"),
        ("a:certificate:", "line 1: expected"),
        ("a:certificate:x\nb:certificate:x", "line 2: 'b' has the same key or identity as 'a'"),
    ],
)
def test_a_wrong_line_is_refused_by_its_number_and_no_secret_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartupError) as refused:
        ApiKeys(written(tmp_path / "keys", text))
    assert said in str(refused.value)
    assert DIGEST not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"--api-keys-file: .*No such file"):
        ApiKeys(tmp_path / "keys")
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match="no text in UTF-8"):
        ApiKeys(tmp_path / "keys")


async def test_a_changed_file_counts_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "keys", line("a", "first"))
    keys = ApiKeys(path)
    await keys.look()
    assert keys.find("first")
    written(path, line("b", "second"))
    await keys.look()
    await keys.look()
    assert (keys.find("first"), keys.find("second") is not None) == (None, True)
    with caplog.at_level(logging.ERROR):
        written(path, "nonsense of the operator's\n")
        for _ in range(3):
            await keys.look()
        path.unlink()
        for _ in range(3):
            await keys.look()
    assert keys.find("second")
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "line 1" in caplog.records[0].getMessage()
    assert "nonsense" not in caplog.text
    written(path, line("c", "third"))
    await keys.look()
    await keys.look()
    assert (keys.find("second"), keys.find("third") is not None) == (None, True)


async def test_a_file_that_is_being_written_counts_when_it_rests(tmp_path: Path) -> None:
    """A line that lacks its scopes yet would have them all."""
    path = written(tmp_path / "keys", line("a", "first", ":infer"))
    keys = ApiKeys(path)
    written(path, line("b", "second"))
    await keys.look()
    written(path, line("b", "second", ":infer"))
    await keys.look()
    assert keys.find("second") is None
    await keys.look()
    found = keys.find("second")
    assert found is not None
    assert not found.allows(Scope.ADMIN, None)


async def test_a_link_that_leads_elsewhere_counts_as_a_change(tmp_path: Path) -> None:
    """As Kubernetes changes a mounted Secret."""
    for name, key in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(line(name, key))
    current = tmp_path / "current"
    current.symlink_to("one")
    keys = ApiKeys(current / "keys")
    beside = tmp_path / "new"
    beside.symlink_to("two")
    os.replace(beside, current)
    await keys.look()
    await keys.look()
    assert (keys.find("first"), keys.find("second") is not None) == (None, True)


def test_an_empty_file_knows_nobody_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        keys = ApiKeys(written(tmp_path / "keys", "# nobody yet\n"))
    assert keys.find("") is None
    assert "no keys" in caplog.text


def test_a_new_key_is_in_its_line(tmp_path: Path) -> None:
    (key, text), (other, _) = new_key("me", ["infer"]), new_key("me", [])
    assert key != other
    assert len(key) >= 40
    found = ApiKeys(written(tmp_path / "keys", text)).find(key)
    assert found is not None
    assert [found.allows(scope, None) for scope in Scope] == [True, False, False]
    with pytest.raises(ValueError, match="unknown scope"):
        new_key("me", ["write"])


def test_a_line_is_put_at_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    append_line(path, line("a", "first").strip())
    path.write_text(path.read_text().rstrip())
    append_line(path, line("b", "second", ":infer").strip())
    assert path.read_text() == line("a", "first") + line("b", "second", ":infer")
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="the name 'a' is there twice"):
        append_line(path, line("a", "third").strip())
    assert ApiKeys(path).find("third") is None
    with pytest.raises(ValueError, match="cannot be written"):
        append_line(tmp_path / "absent" / "keys", line("a", "first").strip())
