"""Send requests to Grafana's HTTP API, with errors as messages.

Used by `sqllogs.grafana.push`, in the command's thread. Credentials come only from the environment and never
appear in a message. Only this module imports requests, at the first use.
"""

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.errors import ProvisioningError

if TYPE_CHECKING:
    import requests

TIMEOUT_S = 15.0
_CREDENTIALS = gettext_lazy(
    "Set GRAFANA_TOKEN to the token of a service account with the role Admin, "
    "or GRAFANA_USER and GRAFANA_PASSWORD."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrafanaResponse:
    status: int
    body: Any
    """The JSON body; None without one."""
    message: str
    """Grafana's message."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def missing(self) -> bool:
        return self.status == 404


class Grafana:
    """A client of one Grafana; a context manager that closes its connections."""

    def __init__(self, url: str, session: "requests.Session") -> None:
        self.url = url.rstrip("/")
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._session.close()

    @classmethod
    def from_environment(cls, url: str) -> Self:
        """Take the credentials from the environment; raise ProvisioningError without them or requests."""
        try:
            import requests
        except ImportError as exc:
            raise ProvisioningError(_("--push requires requests: `pip install requests PyYAML`.")) from exc
        session = requests.Session()
        # A function, because requests replaces a plain header by credentials from a .netrc file.
        session.auth = _authorize(_authorization())
        return cls(url, session)

    def request(self, method: str, *path: str, body: object = None) -> GrafanaResponse:
        """Send a request; raise ProvisioningError if no other request could succeed either."""
        import requests

        address = "/".join((self.url, "api", *(quote(part, safe="") for part in path)))
        try:
            # Do not follow redirects, which turn a POST into a GET.
            response = self._session.request(
                method, address, json=body, timeout=TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException as exc:
            raise ProvisioningError(
                _("Grafana does not answer at %(url)s: %(reason)s") % {"url": self.url, "reason": _cause(exc)}
            ) from exc
        answer = _answer(response)
        if answer.status == 401:
            raise ProvisioningError(
                _("Grafana rejects the credentials: %(message)s")
                % {"message": f"{answer.message} {_CREDENTIALS}"}
            )
        if response.is_redirect:
            where = response.headers["Location"]
            raise ProvisioningError(
                _("%(url)s redirects to %(target)s. Set --push to the address of Grafana itself.")
                % {"url": self.url, "target": where}
            )
        if answer.ok and answer.body is None:
            raise ProvisioningError(
                _("%(url)s is not Grafana's API: the response is not JSON.") % {"url": self.url}
            )
        return answer


def _authorization() -> str:
    """Return the header's value. An invalid one is not shown, because it may contain the secret."""
    token = os.environ.get("GRAFANA_TOKEN", "").strip()
    if token:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ProvisioningError(_("GRAFANA_TOKEN has invalid characters."))
        return f"Bearer {token}"
    user, password = (os.environ.get(f"GRAFANA_{name}", "") for name in ("USER", "PASSWORD"))
    if not (user and password):
        raise ProvisioningError(_("--push requires credentials. %(advice)s") % {"advice": _CREDENTIALS})
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _authorize(value: str) -> Any:
    def add(request: Any) -> Any:
        request.headers["Authorization"] = value
        return request

    return add


def _answer(response: "requests.Response") -> GrafanaResponse:
    try:
        body = response.json()
    except ValueError:
        body = None
    sent = body.get("message") if isinstance(body, dict) else None
    message = str(sent or response.reason or "no reason given").rstrip(".") + "."
    return GrafanaResponse(status=response.status_code, body=body, message=message)


def _cause(exc: BaseException) -> str:
    """Return the root cause: `Connection refused` rather than a message about retries."""
    while (inner := exc.__cause__ or exc.__context__) is not None:
        exc = inner
    return str(exc) or type(exc).__name__
