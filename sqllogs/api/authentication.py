"""Identify the reader and decide whether they may read: token, staff session, or loopback in development.

Used by every view of the API in the reader's thread. Works without `django.contrib.auth`: the user of a
session is whatever the host's middleware put on the request.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from sqllogs import conf
from sqllogs.api import tokens
from sqllogs.models import VIEW, VIEW_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What an authenticated reader may see. It is `request.auth` in every view of the API."""

    name: str
    may_read: bool
    """All fields except the SQL text."""
    may_read_text: bool
    """The SQL text too."""


class ReaderRequest(Request):
    """Leaves `request.user` as the host set it; the reader is in `request.auth`."""

    def _not_authenticated(self) -> None:
        self._authenticator = None
        self._user = getattr(self._request, "user", None)
        self._auth = None

    @property
    def known_reader(self) -> Reader | None:
        """The reader, if already authenticated and allowed to read; runs no authentication."""
        reader = getattr(self, "_auth", None)
        return reader if isinstance(reader, Reader) and reader.may_read else None


class ReaderAuthentication(BaseAuthentication):
    """Base of the three ways to authenticate."""

    def authenticate(self, request: Request) -> tuple[Any, Reader] | None:
        reader = self.reader(request)
        # Only the second value is ours. Returning another user would change `request.user` for the host.
        return (getattr(request._request, "user", None), reader) if reader else None

    def reader(self, request: Request) -> Reader | None:
        raise NotImplementedError

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenAuthentication(ReaderAuthentication):
    """`Authorization: Bearer TOKEN`. Only as a header: query strings end up in access logs."""

    def reader(self, request: Request) -> Reader | None:
        scheme, _space, value = get_authorization_header(request).strip().partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        if request.method not in ("GET", "HEAD"):
            raise exceptions.MethodNotAllowed(str(request.method), _("Tokens allow only GET and HEAD."))
        token = tokens.verify(value.strip())
        if token is None:
            raise exceptions.AuthenticationFailed(_("The token is invalid or has been revoked."))
        return Reader(name=f"token {token.name}", may_read=True, may_read_text=True)


class SessionAuthentication(ReaderAuthentication):
    """The host's login session. These views change nothing, so they need no CSRF check."""

    def reader(self, request: Request) -> Reader | None:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_authenticated or not user.is_active:
            return None
        is_staff = getattr(user, "is_staff", False) or getattr(user, "is_superuser", False)
        may_read = bool(is_staff) and user.has_perm(VIEW)
        may_read_text = may_read and user.has_perm(VIEW_TEXT)
        return Reader(name=f"user {user.pk}", may_read=may_read, may_read_text=may_read_text)


class LoopbackAuthentication(ReaderAuthentication):
    """Anyone on this machine, if both DEBUG and ANONYMOUS_LOOPBACK are set."""

    def reader(self, request: Request) -> Reader | None:
        if not (settings.DEBUG and conf.load().anonymous_loopback and _is_local(request.META)):
            return None
        return Reader(name="loopback", may_read=True, may_read_text=True)


def _is_local(meta: dict[str, Any]) -> bool:
    """Return whether the client itself is on this machine."""
    # Behind a proxy on this machine every client has a loopback address, so any proxy header disqualifies.
    if any(name in ("HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA") for name in meta):
        return False
    if any(name.startswith("HTTP_X_FORWARDED") for name in meta):
        return False
    try:
        return ip_address(meta.get("REMOTE_ADDR") or "").is_loopback
    except ValueError:
        return False


class MayRead(BasePermission):
    """Required by every view. An anonymous client gets 401, an authenticated one without permission 403."""

    message = format_lazy(
        gettext_lazy("Reading the SQL log requires staff status and the permission {permission}."),
        permission=VIEW,
    )

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, Reader) and request.auth.may_read
