"""Make, check and revoke the bearer tokens of the API; only their digests are stored.

Called by `sqllogs.api.authentication` and by `manage.py sqllogs token`.
"""

import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, router, transaction
from django.db.models import QuerySet

from sqllogs.errors import SQLLogsError
from sqllogs.models import Token

PREFIX = "sqllogs_"
RANDOM_BYTES = 32
LENGTH_MIN = 20
ACTIVE_MAX = 2
"""Under one name: the one in use, and the one that takes its place."""
USE_INTERVAL = timedelta(minutes=1)
"""The last use is not noted more often."""

# What may follow "Bearer": https://www.rfc-editor.org/rfc/rfc6750#section-2.1
_VALUE = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenError(SQLLogsError):
    """A token cannot be made or revoked as asked; the message says what to do."""


def create(name: str, token: str | None = None, *, replace: bool = False) -> str:
    """Store a token under a name and return it; raise TokenError.

    A given token that is active under the name already is left as it is.
    `replace` revokes the others of that name.
    """
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise TokenError("Give a name of 1 to 64 printable characters.")
    if token is None:
        token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    else:
        _check(token)
    with transaction.atomic(using=router.db_for_write(Token)):
        if replace:
            active().filter(name=name).exclude(digest=_digest(token)).update(revoked_at=datetime.now(UTC))
        _store(name, _digest(token), replace=replace)
    return token


def verify(value: bytes) -> Token | None:
    """Return the active token that a header shows, and note its use."""
    digest = hashlib.sha256(value).hexdigest()
    found = None
    for token in active():  # all of them are compared, whichever it is
        if hmac.compare_digest(token.digest, digest):
            found = token
    if found is not None:
        _note_use(found)
    return found


def revoke(name: str, digest_prefix: str = "") -> int:
    """Revoke the active tokens of a name, or the one whose digest begins so; return how many.

    Raise TokenError when there is none.
    """
    chosen = active().filter(name=name, digest__startswith=digest_prefix.lower())
    revoked = chosen.update(revoked_at=datetime.now(UTC))
    if not revoked:
        raise TokenError(f"No such token is active under {name!r}; `manage.py sqllogs token list` shows all.")
    return revoked


def active() -> QuerySet[Token]:
    return Token.objects.filter(revoked_at=None)


def _check(token: str) -> None:
    if len(token) < LENGTH_MIN:
        raise TokenError(f"The token is shorter than {LENGTH_MIN} characters; leave it out to have one made.")
    if token == settings.SECRET_KEY:
        raise TokenError("The token is the SECRET_KEY, which must not leave the server; choose another.")
    if not _VALUE.fullmatch(token):
        raise TokenError("The token cannot stand in a header; use letters, digits and . _ ~ + / - only.")


def _store(name: str, digest: str, *, replace: bool) -> None:
    known = Token.objects.filter(digest=digest).first()
    if known is not None and known.name != name:
        raise TokenError(f"The token is known under {known.name!r}; choose another.")
    if known is not None and known.revoked_at is None:
        return
    if known is not None and not replace:
        raise TokenError("The token has been revoked; choose another, or give --replace to have it back.")
    if active().filter(name=name).count() >= ACTIVE_MAX:
        raise TokenError(
            f"{ACTIVE_MAX} tokens are active under {name!r}; revoke one by "
            f"`manage.py sqllogs token revoke {name} --digest PREFIX`, or all by --replace."
        )
    Token.objects.update_or_create(digest=digest, defaults={"name": name, "revoked_at": None})


def _note_use(token: Token) -> None:
    now = datetime.now(UTC)
    if token.last_used_at is not None and now - token.last_used_at < USE_INTERVAL:
        return
    # A store that cannot be written can still be read.
    with suppress(DatabaseError), transaction.atomic(using=token._state.db):
        Token.objects.filter(pk=token.pk).update(last_used_at=now)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
