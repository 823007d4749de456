"""Datasources, folder and dashboards, sent through Grafana's HTTP API: each found by its uid, so that a
second time changes nothing.

Fed by `sqllogs.grafana.objects`, feeds the report of `manage.py provision_grafana`.
"""

from collections.abc import Iterator
from typing import Any

from sqllogs.grafana.api import Answer, Grafana
from sqllogs.grafana.objects import Datasource, Objects
from sqllogs.grafana.outcome import Outcome, State

MESSAGE = "manage.py provision_grafana"
_HINTS = {
    403: "Datasources take the role Admin, folder and dashboards Editor.",
    409: "One that is there already is used with --prometheus-uid, --loki-uid, --tempo-uid.",
    412: "It was changed by somebody else at the same time, or another one has its name.",
}


def push(grafana: Grafana, objects: Objects) -> Iterator[Outcome]:
    """Send everything and tell of each what became of it; raise ProvisioningError if nothing can succeed."""
    for datasource in objects.datasources:
        yield _datasource(grafana, datasource)
        for correlation in datasource.correlations:
            yield _correlation(grafana, datasource.definition["uid"], correlation)
    yield _folder(grafana, objects.folder_uid, objects.folder_title)
    for dashboard in objects.dashboards:
        yield _dashboard(grafana, dashboard, objects.folder_uid)


def _datasource(grafana: Grafana, datasource: Datasource) -> Outcome:
    ours, kind = datasource.definition, "datasource"
    body = ours | {"secureJsonData": datasource.secrets}
    found = grafana.ask("GET", "datasources", "uid", ours["uid"])
    if found.missing:
        return _told(kind, ours["name"], State.CREATED, grafana.ask("POST", "datasources", body=body))
    if not found.ok:
        return _failed(kind, ours["name"], found)
    same = _within(ours, found.body)
    if same and not datasource.secrets:
        return Outcome(kind=kind, name=ours["name"], state=State.UNCHANGED)
    # Grafana tells no secret, so nobody knows whether it has this one: it is sent each time.
    body |= {"version": found.body.get("version")}
    sent = grafana.ask("PUT", "datasources", "uid", ours["uid"], body=body)
    state, words = (State.UNCHANGED, "its token was sent anew") if same else (State.UPDATED, "")
    return _told(kind, ours["name"], state, sent, words)


def _correlation(grafana: Grafana, uid: str, ours: dict[str, Any]) -> Outcome:
    path = ("datasources", "uid", uid, "correlations")
    found = grafana.ask("GET", *path)
    if not (found.ok or found.missing):  # without any there is 404
        return _failed("correlation", ours["label"], found)
    there = found.body if isinstance(found.body, list) else []
    theirs = next((one for one in there if one.get("label") == ours["label"]), None)
    if theirs is None:
        return _told("correlation", ours["label"], State.CREATED, grafana.ask("POST", *path, body=ours))
    if _within(ours, theirs):
        return Outcome(kind="correlation", name=ours["label"], state=State.UNCHANGED)
    sent = grafana.ask("PATCH", *path, theirs["uid"], body=ours)
    return _told("correlation", ours["label"], State.UPDATED, sent)


def _folder(grafana: Grafana, uid: str, title: str) -> Outcome:
    found = grafana.ask("GET", "folders", uid)
    if found.missing:
        body = {"uid": uid, "title": title}
        return _told("folder", title, State.CREATED, grafana.ask("POST", "folders", body=body))
    if not found.ok:
        return _failed("folder", title, found)
    return Outcome(kind="folder", name=title, state=State.UNCHANGED)  # under whatever title it has by now


def _dashboard(grafana: Grafana, ours: dict[str, Any], folder_uid: str) -> Outcome:
    found = grafana.ask("GET", "dashboards", "uid", ours["uid"])
    if not (found.ok or found.missing):
        return _failed("dashboard", ours["title"], found)
    version = None if found.missing else found.body["dashboard"].get("version")
    if found.ok and _within(ours, found.body["dashboard"]) and _is_in(folder_uid, found):
        return Outcome(kind="dashboard", name=ours["title"], state=State.UNCHANGED)
    body = {
        # With the version that was read and without overwriting, a change of the meantime is a refusal.
        "dashboard": ours | {"id": None, "version": version},
        "folderUid": folder_uid,
        "overwrite": False,
        "message": MESSAGE,
    }
    sent = grafana.ask("POST", "dashboards", "db", body=body)
    if found.missing:
        return _told("dashboard", ours["title"], State.CREATED, sent)
    return _told("dashboard", ours["title"], State.UPDATED, sent, f"version {version} is in its history")


def _is_in(folder_uid: str, found: Answer) -> bool:
    return bool(found.body.get("meta", {}).get("folderUid") == folder_uid)


def _within(ours: Any, theirs: Any) -> bool:
    """Return whether all of ours is there as we have it; Grafana adds values of its own."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(
            key in theirs and _within(value, theirs[key]) for key, value in ours.items()
        )
    if isinstance(ours, list):
        same_length = isinstance(theirs, list) and len(ours) == len(theirs)
        return same_length and all(map(_within, ours, theirs))
    return bool(ours == theirs)


def _told(kind: str, name: str, state: State, sent: Answer, words: str = "") -> Outcome:
    return Outcome(kind=kind, name=name, state=state, words=words) if sent.ok else _failed(kind, name, sent)


def _failed(kind: str, name: str, answer: Answer) -> Outcome:
    words = " ".join(filter(None, (f"{answer.status}: {answer.words}", _HINTS.get(answer.status))))
    return Outcome(kind=kind, name=name, state=State.FAILED, words=words)
