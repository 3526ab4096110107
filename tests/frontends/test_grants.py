import pytest

from ortolan.frontends.access.grants import Scope, parse_grant

INFER, READ, ADMIN = Scope


@pytest.mark.parametrize(
    ("scopes", "allowed", "refused"),
    [
        ([], [(INFER, "m"), (READ, None), (ADMIN, None)], []),
        (["infer"], [(INFER, "m"), (INFER, None)], [(READ, "m"), (ADMIN, None)]),
        (["infer", "read"], [(INFER, "m"), (READ, None)], [(ADMIN, "m")]),
        # A scope for some models reaches these, and nothing that is about all.
        (["infer@m"], [(INFER, "m")], [(INFER, "mm"), (INFER, ""), (INFER, None), (READ, "m")]),
        (["infer@res*"], [(INFER, "res"), (INFER, "resnet")], [(INFER, "Resnet"), (INFER, "a-res")]),
        (["infer@*-v?"], [(INFER, "a-v?")], [(INFER, "a-v1")]),
        (["infer@a", "infer@b", "read@c"], [(INFER, "a"), (INFER, "b"), (READ, "c")], [(INFER, "c"), (READ, "a")]),
        (["infer@a", "infer"], [(INFER, "b"), (INFER, None)], []),
        (["infer@a|b"], [(INFER, "a|b")], [(INFER, "a"), (INFER, "b")]),
        (["infer@m"], [], [(INFER, "m\n"), (INFER, "\nm")]),
        (["infer@a*b*c"], [(INFER, "abc"), (INFER, "a.b.b.c"), (INFER, "abcc")], [(INFER, "ac"), (INFER, "abcd")]),
        (["infer@ab*ba"], [(INFER, "abba")], [(INFER, "aba"), (INFER, "ab")]),
        (["infer@" + "*a" * 50 + "*b"], [(INFER, "a" * 50 + "b")], [(INFER, "a" * 10_000)]),
    ],
)
def test_a_grant_allows_its_scopes_and_nothing_else(
    scopes: list[str], allowed: list[tuple[Scope, str | None]], refused: list[tuple[Scope, str | None]]
) -> None:
    grant = parse_grant("somebody", scopes)
    assert [grant.allows(*asked) for asked in allowed] == [True] * len(allowed)
    assert [grant.allows(*asked) for asked in refused] == [False] * len(refused)


@pytest.mark.parametrize("scope", ["", "Infer", "write", "infer@", "@m", "*", "infer read"])
def test_a_text_that_is_no_scope_is_refused_and_quoted(scope: str) -> None:
    with pytest.raises(ValueError, match="unknown scope") as refused:
        parse_grant("somebody", [scope])
    assert f"'{scope}'" in str(refused.value)
    assert "infer, read, admin" in str(refused.value)
