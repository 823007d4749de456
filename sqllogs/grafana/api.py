"""Grafana's HTTP API: one session, one way to ask, errors in words.

Fed by `sqllogs.grafana.push`. Credentials come from the environment alone and are never told;
requests is imported here only, at the first use.
"""

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from sqllogs.errors import ProvisioningError

if TYPE_CHECKING:
    import requests

TIMEOUT_S = 15.0
_CREDENTIALS = (
    "Set GRAFANA_TOKEN to the token of a service account with the role Admin, "
    "or GRAFANA_USER and GRAFANA_PASSWORD."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrafanaResponse:
    status: int
    body: Any
    """What the JSON holds, None if there is none."""
    words: str
    """Grafana's message."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def missing(self) -> bool:
        return self.status == 404


class Grafana:
    """A Grafana at an address; a context manager, which closes its connections."""

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
            raise ProvisioningError("--push needs requests: `pip install requests PyYAML`.") from exc
        session = requests.Session()
        # A function, because of a header alone requests would make way for one from a .netrc file.
        session.auth = _authorize(_authorization())
        return cls(url, session)

    def ask(self, method: str, *path: str, body: object = None) -> GrafanaResponse:
        """Send a request; raise ProvisioningError where no other one could succeed either."""
        import requests

        address = "/".join((self.url, "api", *(quote(part, safe="") for part in path)))
        try:
            # Not to where it redirects: a POST would become a GET there.
            response = self._session.request(
                method, address, json=body, timeout=TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException as exc:
            raise ProvisioningError(f"Grafana does not answer at {self.url}: {_cause(exc)}") from exc
        answer = _answer(response)
        if answer.status == 401:
            raise ProvisioningError(f"Grafana refuses the credentials: {answer.words} {_CREDENTIALS}")
        if response.is_redirect:
            where = response.headers["Location"]
            raise ProvisioningError(f"{self.url} leads to {where}; give --push the address that Grafana has.")
        if answer.ok and answer.body is None:
            raise ProvisioningError(f"What answers at {self.url} is not Grafana's API: it sends no JSON.")
        return answer


def _authorization() -> str:
    """Return the header's value; a bad one is not told, it may be a part of the secret."""
    token = os.environ.get("GRAFANA_TOKEN", "").strip()
    if token:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ProvisioningError("GRAFANA_TOKEN has characters in it that no token has.")
        return f"Bearer {token}"
    user, password = (os.environ.get(f"GRAFANA_{name}", "") for name in ("USER", "PASSWORD"))
    if not (user and password):
        raise ProvisioningError(f"--push needs to log in. {_CREDENTIALS}")
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
    told = body.get("message") if isinstance(body, dict) else None
    words = str(told or response.reason or "no reason given").rstrip(".") + "."
    return GrafanaResponse(status=response.status_code, body=body, words=words)


def _cause(exc: BaseException) -> str:
    """Return what is at the bottom of it: `Connection refused` rather than a pool's retries."""
    while (inner := exc.__cause__ or exc.__context__) is not None:
        exc = inner
    return str(exc) or type(exc).__name__
