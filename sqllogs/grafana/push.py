"""Send datasources, folder and dashboards to Grafana, each by its uid, so that a second run changes nothing.

Fed by the texts of `sqllogs.grafana.files`, feeds the report of `manage.py provision_grafana`, in whose
thread it runs. Credentials come only from the environment and never appear in a message. Only this module
imports PyYAML and requests, because --output does not need them.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.errors import ProvisioningError
from sqllogs.grafana.files import DATASOURCES, ProvisionResult, ProvisionState

if TYPE_CHECKING:
    import requests

TIMEOUT_S = 15.0
_CREDENTIALS = gettext_lazy(
    "Set GRAFANA_TOKEN to the token of a service account with the role Admin, "
    "or GRAFANA_USER and GRAFANA_PASSWORD."
)

_PROVIDER = "provisioning/dashboards/django.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrafanaResponse:
    status: int
    """HTTP status."""
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
        # By `auth`, because requests replaces a plain header with credentials from a .netrc file.
        session.auth = _set_header(_authorization())
        return cls(url, session)

    def request(self, method: str, *path: str, body: object = None) -> GrafanaResponse:
        """Send a request; raise ProvisioningError if no other request could succeed either."""
        import requests

        address = "/".join((self.url, "api", *(quote(part, safe="") for part in path)))
        try:
            # No redirects, because a redirected POST becomes a GET.
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


def _set_header(authorization: str) -> Any:
    def authorize(request: Any) -> Any:
        request.headers["Authorization"] = authorization
        return request

    return authorize


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasource:
    definition: dict[str, Any]
    secrets: dict[str, str]
    """Tokens and passwords, which Grafana stores and never returns."""
    correlations: list[dict[str, Any]]
    """Links from values of this datasource to queries of another; the API has its own address for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrafanaObjects:
    """All that `push` sends, in this order."""

    datasources: list[Datasource]
    folder_uid: str
    folder_title: str
    dashboards: list[dict[str, Any]]


def parse_objects(texts: Mapping[str, str]) -> GrafanaObjects:
    """Parse the texts as Grafana does; raise ProvisioningError if a secret is not in the environment."""
    (provider,) = _yaml(texts[_PROVIDER])["providers"]
    return GrafanaObjects(
        datasources=[_provisioned_datasource(entry) for entry in _yaml(texts[DATASOURCES])["datasources"]],
        folder_uid=provider["folderUid"],
        folder_title=provider["folder"],
        dashboards=[json.loads(text) for path, text in texts.items() if path.startswith("dashboards/")],
    )


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise ProvisioningError(_("--push requires PyYAML: `pip install requests PyYAML`.")) from exc
    return yaml.safe_load(text)


def _provisioned_datasource(entry: dict[str, Any]) -> Datasource:
    secrets = entry.pop("secureJsonData", {})
    correlations = entry.pop("correlations", [])
    del entry["editable"]  # only for files: objects created by the API can be edited
    return Datasource(
        definition=_unescaped(entry),
        secrets={name: _from_environment(value.removeprefix("$")) for name, value in secrets.items()},
        correlations=_unescaped(correlations),
    )


def _unescaped(value: Any) -> Any:
    """Return a value from a file, where `$$` means `$`, for the API."""
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    return value.replace("$$", "$") if isinstance(value, str) else value


def _from_environment(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise ProvisioningError(
        _(
            "%(name)s is not set. It must be the token with which Grafana reads the SQL log; create one with "
            "`export %(name)s=$(python manage.py sqllogs token create grafana)`."
        )
        % {"name": name}
    )


MESSAGE = "manage.py provision_grafana"
"""Who made a version of a dashboard, in Grafana's list of its versions."""
_HINTS = {
    403: gettext_lazy("Datasources require the role Admin, folder and dashboards Editor."),
    409: gettext_lazy("To use an existing datasource, set --prometheus-uid, --loki-uid or --tempo-uid."),
    412: gettext_lazy("It was changed at the same time, or another one has its name."),
}


def push(grafana: Grafana, objects: GrafanaObjects) -> Iterator[ProvisionResult]:
    """Send all objects and yield the result of each; raise ProvisioningError if none can succeed."""
    for datasource in objects.datasources:
        yield _datasource(grafana, datasource)
        for correlation in datasource.correlations:
            yield _correlation(grafana, datasource.definition["uid"], correlation)
    yield _folder(grafana, objects.folder_uid, objects.folder_title)
    for dashboard in objects.dashboards:
        yield _dashboard(grafana, dashboard, objects.folder_uid)


def _datasource(grafana: Grafana, datasource: Datasource) -> ProvisionResult:
    ours, kind = datasource.definition, "datasource"
    body = ours | {"secureJsonData": datasource.secrets}
    current = grafana.request("GET", "datasources", "uid", ours["uid"])
    if current.missing:
        return _result(
            kind, ours["name"], ProvisionState.CREATED, grafana.request("POST", "datasources", body=body)
        )
    if not current.ok:
        return _failed(kind, ours["name"], current)
    same = _within(ours, current.body)
    if same and not datasource.secrets:
        return ProvisionResult(kind=kind, name=ours["name"], state=ProvisionState.UNCHANGED)
    # Grafana does not return secrets, so it is unknown whether this one changed: send it each time.
    body |= {"version": current.body.get("version")}
    sent = grafana.request("PUT", "datasources", "uid", ours["uid"], body=body)
    state, note = (ProvisionState.UNCHANGED, _("token sent again")) if same else (ProvisionState.UPDATED, "")
    return _result(kind, ours["name"], state, sent, note)


def _correlation(grafana: Grafana, uid: str, ours: dict[str, Any]) -> ProvisionResult:
    path = ("datasources", "uid", uid, "correlations")
    current = grafana.request("GET", *path)
    if not (current.ok or current.missing):  # 404 if there are no correlations
        return _failed("correlation", ours["label"], current)
    existing = current.body if isinstance(current.body, list) else []
    theirs = next((entry for entry in existing if entry.get("label") == ours["label"]), None)
    if theirs is None:
        return _result(
            "correlation", ours["label"], ProvisionState.CREATED, grafana.request("POST", *path, body=ours)
        )
    if _within(ours, theirs):
        return ProvisionResult(kind="correlation", name=ours["label"], state=ProvisionState.UNCHANGED)
    sent = grafana.request("PATCH", *path, theirs["uid"], body=ours)
    return _result("correlation", ours["label"], ProvisionState.UPDATED, sent)


def _folder(grafana: Grafana, uid: str, title: str) -> ProvisionResult:
    current = grafana.request("GET", "folders", uid)
    if current.missing:
        body = {"uid": uid, "title": title}
        return _result("folder", title, ProvisionState.CREATED, grafana.request("POST", "folders", body=body))
    if not current.ok:
        return _failed("folder", title, current)
    # Also if its title was changed in Grafana: the uid says which folder it is.
    return ProvisionResult(kind="folder", name=title, state=ProvisionState.UNCHANGED)


def _dashboard(grafana: Grafana, ours: dict[str, Any], folder_uid: str) -> ProvisionResult:
    current = grafana.request("GET", "dashboards", "uid", ours["uid"])
    if not (current.ok or current.missing):
        return _failed("dashboard", ours["title"], current)
    version = None if current.missing else current.body["dashboard"].get("version")
    if current.ok and _within(ours, current.body["dashboard"]) and _is_in(folder_uid, current):
        return ProvisionResult(kind="dashboard", name=ours["title"], state=ProvisionState.UNCHANGED)
    body = {
        # With the version just read and no `overwrite`, Grafana answers 412 if another change came first.
        "dashboard": ours | {"id": None, "version": version},
        "folderUid": folder_uid,
        "overwrite": False,
        "message": MESSAGE,
    }
    sent = grafana.request("POST", "dashboards", "db", body=body)
    if current.missing:
        return _result("dashboard", ours["title"], ProvisionState.CREATED, sent)
    return _result(
        "dashboard",
        ours["title"],
        ProvisionState.UPDATED,
        sent,
        _("version %(version)s is in its history") % {"version": version},
    )


def _is_in(folder_uid: str, current: GrafanaResponse) -> bool:
    return bool(current.body.get("meta", {}).get("folderUid") == folder_uid)


def _within(ours: Any, theirs: Any) -> bool:
    """Return whether `theirs` contains all of `ours`."""
    # Not equality: Grafana adds defaults, so each run would write a new version.
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(
            key in theirs and _within(value, theirs[key]) for key, value in ours.items()
        )
    if isinstance(ours, list):
        same_length = isinstance(theirs, list) and len(ours) == len(theirs)
        return same_length and all(map(_within, ours, theirs))
    return bool(ours == theirs)


def _result(
    kind: str, name: str, state: ProvisionState, sent: GrafanaResponse, note: str = ""
) -> ProvisionResult:
    if not sent.ok:
        return _failed(kind, name, sent)
    return ProvisionResult(kind=kind, name=name, state=state, message=note)


def _failed(kind: str, name: str, answer: GrafanaResponse) -> ProvisionResult:
    hint = _HINTS.get(answer.status)
    message = f"{answer.status}: {answer.message}" + (f" {hint}" if hint else "")
    return ProvisionResult(kind=kind, name=name, state=ProvisionState.FAILED, message=message)
