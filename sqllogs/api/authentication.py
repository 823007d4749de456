"""Tell who reads: the bearer of a token, a member of staff, or in development anyone on this machine.

Called by the views of this package alone, in the reader's thread.
`django.contrib.auth` may be missing; the sessions' users are taken as they come.

Let readers in, by what `sqllogs.api.authentication` has found out about them.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from django.conf import settings
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
    """What a known reader may see; `request.auth` of every answered request."""

    name: str
    may_read: bool
    """Figures, fingerprints and all other fields but the text."""
    may_read_text: bool
    """The text of statements."""


class ReaderRequest(Request):
    """Leaves the host project's `request.user` as it is: our readers are told by `auth`."""

    def _not_authenticated(self) -> None:
        self._authenticator = None
        self._user = getattr(self._request, "user", None)
        self._auth = None

    @property
    def known_reader(self) -> Reader | None:
        """Who reads, if that has been found out and they may; asks nothing."""
        found = getattr(self, "_auth", None)
        return found if isinstance(found, Reader) and found.may_read else None


class ReaderAuthentication(BaseAuthentication):
    """One way to become a reader."""

    def authenticate(self, request: Request) -> tuple[Any, Reader] | None:
        reader = self.reader(request)
        # The second value is what counts; the first is given back as it was found.
        return (getattr(request._request, "user", None), reader) if reader else None

    def reader(self, request: Request) -> Reader | None:
        raise NotImplementedError

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenAuthentication(ReaderAuthentication):
    """`Authorization: Bearer TOKEN`; in the header alone, since query strings reach access logs."""

    def reader(self, request: Request) -> Reader | None:
        scheme, _, value = get_authorization_header(request).strip().partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        if request.method not in ("GET", "HEAD"):
            raise exceptions.MethodNotAllowed(str(request.method), "A token is for GET and HEAD only.")
        token = tokens.verify(value.strip())
        if token is None:
            raise exceptions.AuthenticationFailed("The token is wrong or revoked.")
        return Reader(name=f"token {token.name}", may_read=True, may_read_text=True)


class SessionAuthentication(ReaderAuthentication):
    """Django's login. Nothing is changed by these views, so no CSRF token is asked for."""

    def reader(self, request: Request) -> Reader | None:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_authenticated or not user.is_active:
            return None
        is_staff = getattr(user, "is_staff", False) or getattr(user, "is_superuser", False)
        may_read = bool(is_staff) and user.has_perm(VIEW)
        may_read_text = may_read and user.has_perm(VIEW_TEXT)
        return Reader(name=f"user {user.pk}", may_read=may_read, may_read_text=may_read_text)


class LoopbackAuthentication(ReaderAuthentication):
    """Anyone on this machine, with DEBUG and where ANONYMOUS_LOOPBACK is set."""

    def reader(self, request: Request) -> Reader | None:
        if not (settings.DEBUG and conf.load().anonymous_loopback and _is_local(request.META)):
            return None
        return Reader(name="loopback", may_read=True, may_read_text=True)


def _is_local(meta: dict[str, Any]) -> bool:
    """Behind a proxy on this machine every address is a loopback one, so no proxy must have a part in it."""
    if any(name in ("HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA") for name in meta):
        return False
    if any(name.startswith("HTTP_X_FORWARDED") for name in meta):
        return False
    try:
        return ip_address(meta.get("REMOTE_ADDR") or "").is_loopback
    except ValueError:
        return False


class MayRead(BasePermission):
    """Every view of this package asks for it; an unknown reader gets 401, a known one 403."""

    message = f"The SQL log is for staff with the permission {VIEW}."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, Reader) and request.auth.may_read
