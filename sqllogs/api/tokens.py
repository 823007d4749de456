"""Create, verify and revoke the bearer tokens of the API; only their digests are stored.

Called by `sqllogs.api.access` in the reader's thread and by `manage.py sqllogs token`.
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
from django.utils.translation import gettext as _

from sqllogs.errors import SQLLogsError
from sqllogs.models import Token

PREFIX = "sqllogs_"
RANDOM_BYTES = 32
LENGTH_MIN = 20
ACTIVE_MAX = 2
"""Maximum per name: the token in use, and its replacement during a rotation."""
USE_INTERVAL = timedelta(minutes=1)
"""`last_used_at` is updated at most this often, so that reading rarely writes."""

# The b64token of RFC 6750: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
_VALUE = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenError(SQLLogsError):
    """A token cannot be created or revoked; the message says what to do."""


def create(name: str, token: str | None = None, *, replace: bool = False) -> str:
    """Store a token under a name, a random one if none is given, and return it; raise TokenError.

    Does nothing if the given token is already active under this name. `replace` revokes the other tokens
    of the name.
    """
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise TokenError(_("The name must have 1 to 64 printable characters."))
    if token is None:
        token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    else:
        _check(token)
    # In one transaction, so that the old token stays valid if a rotation fails.
    with transaction.atomic(using=router.db_for_write(Token)):
        if replace:
            active().filter(name=name).exclude(digest=_digest(token)).update(revoked_at=datetime.now(UTC))
        _store(name, _digest(token), replace=replace)
    return token


def verify(value: bytes) -> Token | None:
    """Return the active token with this value, or None; record when it was used."""
    # Tokens are long and random, so a plain hash is enough; a slow one would cost every request.
    digest = hashlib.sha256(value).hexdigest()
    match = None
    for token in active():  # all of them, so that the time does not depend on the match
        if hmac.compare_digest(token.digest, digest):
            match = token
    if match is not None:
        _record_use(match)
    return match


def revoke(name: str, digest_prefix: str = "") -> int:
    """Revoke the active tokens of a name, optionally only those whose digest has this prefix.

    Return how many; raise TokenError if there is no match.
    """
    chosen = active().filter(name=name, digest__startswith=digest_prefix.lower())
    revoked = chosen.update(revoked_at=datetime.now(UTC))
    if not revoked:
        message = _("No such token of '%(name)s' is active; `manage.py sqllogs token list` shows all.")
        raise TokenError(message % {"name": name})
    return revoked


def active() -> QuerySet[Token]:
    return Token.objects.filter(revoked_at=None)


def _check(token: str) -> None:
    if len(token) < LENGTH_MIN:
        message = _("The token must have at least %(count)s characters; omit it to generate one.")
        raise TokenError(message % {"count": LENGTH_MIN})
    if token == settings.SECRET_KEY:
        raise TokenError(_("The token must not be the SECRET_KEY, which must not leave the server."))
    if not _VALUE.fullmatch(token):
        raise TokenError(_("The token may contain only letters, digits and . _ ~ + / - characters."))


def _store(name: str, digest: str, *, replace: bool) -> None:
    existing = Token.objects.filter(digest=digest).first()
    if existing is not None and existing.name != name:
        message = _("This token already belongs to '%(name)s'; choose another.")
        raise TokenError(message % {"name": existing.name})
    if existing is not None and existing.revoked_at is None:
        return
    if existing is not None and not replace:
        raise TokenError(_("The token has been revoked; choose another, or reactivate it with --replace."))
    if active().filter(name=name).count() >= ACTIVE_MAX:
        message = _(
            "'%(name)s' already has %(count)s active tokens; revoke one with "
            "`manage.py sqllogs token revoke %(name)s --digest PREFIX`, or all with --replace."
        )
        raise TokenError(message % {"name": name, "count": ACTIVE_MAX})
    Token.objects.update_or_create(digest=digest, defaults={"name": name, "revoked_at": None})


def _record_use(token: Token) -> None:
    now = datetime.now(UTC)
    if token.last_used_at is not None and now - token.last_used_at < USE_INTERVAL:
        return
    # The log can still be read if its database cannot be written (read-only replica, full disk).
    with suppress(DatabaseError), transaction.atomic(using=token._state.db):
        Token.objects.filter(pk=token.pk).update(last_used_at=now)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
