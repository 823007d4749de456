"""Tokens are random, stored as digests, two under a name, and never weak."""

import hashlib

import pytest

from sqllogs.api import tokens
from sqllogs.api.tokens import TokenError
from sqllogs.models import Token

GIVEN = "a-token-of-the-environment"
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def active():
    return set(tokens.active().values_list("digest", flat=True))


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def test_token_is_random_and_only_its_digest_is_stored():
    first, second = tokens.create("x"), tokens.create("x")
    assert first != second
    assert first.startswith("sqllogs_")
    assert len(first) == 8 + 43  # 32 bytes
    assert active() == {digest(first), digest(second)}


def test_token_is_verified_by_its_value():
    token = tokens.create("x")
    assert tokens.verify(token.encode()).name == "x"
    assert tokens.verify(token[:-1].encode()) is None


def test_third_token_of_a_name_is_refused_until_one_is_revoked():
    tokens.create("x")
    second = tokens.create("x")
    with pytest.raises(TokenError, match=r"revoke one with `manage\.py sqllogs token revoke x"):
        tokens.create("x")
    tokens.create("y")
    tokens.revoke("x", digest(second)[:8])
    tokens.create("x")


def test_replacing_revokes_the_others_of_the_name():
    tokens.create("x")
    other, new = tokens.create("y"), tokens.create("x", replace=True)
    assert active() == {digest(other), digest(new)}


def test_given_token_is_taken_once_and_again():
    for replace in (False, True, False):
        assert tokens.create("x", GIVEN, replace=replace) == GIVEN
        assert active() == {digest(GIVEN)}


def test_revoked_token_comes_back_only_where_it_is_meant():
    tokens.create("x", GIVEN)
    tokens.revoke("x")
    with pytest.raises(TokenError, match="--replace"):
        tokens.create("x", GIVEN)
    tokens.create("x", GIVEN, replace=True)
    assert active() == {digest(GIVEN)}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("x" * 19, "at least 20"),
        ("a token with spaces in it", "letters, digits"),
        ("ein-schönes-langes-token", "letters, digits"),
        ("a-token\r\nInjected: header", "letters, digits"),
    ],
)
def test_unfit_token_is_refused(token, words):
    with pytest.raises(TokenError, match=words):
        tokens.create("x", token)


def test_secret_key_is_no_token(settings):
    settings.SECRET_KEY = GIVEN
    with pytest.raises(TokenError, match="SECRET_KEY"):
        tokens.create("x", GIVEN)


def test_token_of_another_name_is_refused():
    tokens.create("x", GIVEN)
    with pytest.raises(TokenError, match="already belongs to 'x'"):
        tokens.create("y", GIVEN)


def test_refused_replacement_revokes_nothing():
    tokens.create("y", GIVEN)
    kept = tokens.create("x")
    with pytest.raises(TokenError):
        tokens.create("x", GIVEN, replace=True)
    assert digest(kept) in active()


@pytest.mark.parametrize("name", ["", "x" * 65, "a\0b", "a\nb"])
def test_unfit_name_is_refused(name):
    with pytest.raises(TokenError, match="name"):
        tokens.create(name)


def test_revoking_tells_how_many_and_refuses_none():
    tokens.create("x")
    tokens.create("x")
    assert tokens.revoke("x") == 2
    assert Token.objects.count() == 2
    with pytest.raises(TokenError, match="token list"):
        tokens.revoke("x")
