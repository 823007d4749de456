"""Fill a project's addresses and labels into the files of `grafana/`, and write them.

Reads the only copy of provisioning, dashboards and rules, and the options of `manage.py provision_grafana`
as `ProvisionValues`; feeds `--output`, `--kubernetes` and, through `sqllogs.grafana.push`, `--push`. Runs in
the command's thread.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from textwrap import indent

from django.utils.translation import gettext as _

from sqllogs.errors import ProvisioningError


class ProvisionState(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"

    @classmethod
    def from_change(cls, before: object, after: object) -> "ProvisionState":
        """Return the state after a change from `before`, None if it did not exist, to `after`."""
        if before is None:
            return cls.CREATED
        return cls.UNCHANGED if before == after else cls.UPDATED


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionResult:
    kind: str
    name: str
    state: ProvisionState
    message: str = ""
    """The error message, or a note."""


# Strict, so that values need no escaping in YAML and JSON: no blank, no quote, no `$`, `#` or `@`.
_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w.~%/-]*)?", re.ASCII)
_LABEL = re.compile(r"[\w.:/-]+", re.ASCII)
_UID = re.compile(r"[\w-]{1,40}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_FOLDER = re.compile(r".*\S.*")
# A port is 1 to 65535.
_TARGET = re.compile(
    r"[\w.\[\]:-]+:([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionValues:
    """The values of a project; raises ProvisioningError for an invalid one."""

    url: str
    """Address of the SQL log for Grafana's server."""
    browser_url: str
    """Address of the SQL log for the user's browser, in links."""
    token_variable: str
    """Environment variable with a token for the SQL log."""
    app: str
    namespace: str
    job: str
    metrics_target: str
    """Host and port of the metrics, for Prometheus."""
    prometheus_url: str
    loki_url: str
    tempo_url: str
    prometheus_uid: str
    """uid of an existing datasource; empty to create one. The same for the next two."""
    loki_uid: str
    tempo_uid: str
    dashboards_path: str
    """Folder of the dashboards for Grafana's server."""

    def __post_init__(self) -> None:
        for name in ("url", "browser_url", "prometheus_url", "loki_url", "tempo_url"):
            self._check(
                name, _URL, _("an address such as https://host:port/path/, without user, password or query")
            )
        for name in ("app", "namespace", "job"):
            self._check(name, _LABEL, _("letters, digits or any of _.:/-"))
        for name in ("prometheus_uid", "loki_uid", "tempo_uid"):
            if getattr(self, name):
                self._check(name, _UID, _("at most 40 letters, digits, - or _"))
        self._check(
            "token_variable", _VARIABLE, _("the name of an environment variable, not the token itself")
        )
        self._check("metrics_target", _TARGET, _("host:port"))
        self._check("dashboards_path", _FOLDER, _("a folder"))

    def _check(self, name: str, pattern: re.Pattern[str], wanted: str) -> None:
        value = getattr(self, name)
        if pattern.fullmatch(value):
            return
        # Do not print a token that was given by mistake.
        shown = "" if name == "token_variable" else f" {value!r}"
        option = f"--{name.replace('_', '-')}{shown}"
        raise ProvisioningError(
            _("%(option)s is invalid: it must be %(wanted)s.") % {"option": option, "wanted": wanted}
        )


_INSTALLED = Path(__file__).parent
_CLONED = _INSTALLED.parents[1] / "grafana"
_PATTERNS = (
    "provisioning/datasources/*.yml",
    "provisioning/dashboards/*.yml",
    "dashboards/*.json",
    "prometheus/prometheus.yml",
    "prometheus/rules/*.yml",
)
DATASOURCES = "provisioning/datasources/django.yml"
_LABEL_VALUE_MAX = 63
"""Characters of a label's value in Kubernetes."""
_SQL_LOG = "http://localhost:8000/sql-logs/"


def rendered(values: ProvisionValues) -> dict[str, str]:
    """Return the text of each file by its path, with the values of a project filled in."""
    # Texts are replaced, not parsed YAML: comments stay, and no YAML library is needed. The patterns above
    # allow only values that YAML and JSON need no quotes for.
    root = _INSTALLED if (_INSTALLED / "dashboards").is_dir() else _CLONED
    paths = [path for pattern in _PATTERNS for path in sorted(root.glob(pattern))]
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}
    texts[DATASOURCES] = _without(texts[DATASOURCES], _existing_uids(values))
    changes = _changes(values)
    # In one pass, because a new value may look like the original of another.
    originals = re.compile("|".join(re.escape(text) for text in sorted(changes, key=len, reverse=True)))
    return {path: originals.sub(lambda found: changes[found[0]], text) for path, text in texts.items()}


def kubernetes(texts: Mapping[str, str], values: ProvisionValues) -> dict[str, str]:
    """Return the same as manifests for the Prometheus operator and Grafana's sidecar, by path."""
    name = re.sub(r"[^a-z0-9]+", "-", values.app.lower())[:_LABEL_VALUE_MAX].strip("-") or "django"
    manifests = {"kubernetes/servicemonitor.yaml": _service_monitor(name, values)}
    for path, text in texts.items():
        kind, file = path.split("/")[0], Path(path)
        if path.startswith("prometheus/rules/"):
            # Without the comments before `groups:`, which describe the file that they are taken from.
            spec = indent(text[text.index("groups:") :], "  ")
            manifests[f"kubernetes/rules-{file.stem}.yaml"] = (
                _head("monitoring.coreos.com/v1", "PrometheusRule", f"{name}-{file.stem}") + f"spec:\n{spec}"
            )
        elif kind == "dashboards" or path == DATASOURCES:
            label = "grafana_dashboard" if kind == "dashboards" else "grafana_datasource"
            stem = file.stem if kind == "dashboards" else "datasources"
            head = _head("v1", "ConfigMap", f"{name}-{stem}", label)
            data = indent(text, "    ")
            manifests[f"kubernetes/{stem}.yaml"] = f"{head}data:\n  {file.name}: |\n{data}"
    return manifests


def _head(version: str, kind: str, name: str, label: str = "") -> str:
    labels = "  labels:\n    app.kubernetes.io/part-of: django-sqllogs\n"
    if label:
        labels += f'    {label}: "1"\n'
    return f"apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n{labels}"


def _service_monitor(name: str, values: ProvisionValues) -> str:
    # The operator sets labels from Kubernetes; these three are what dashboards and alerts select by.
    labels = {"app": values.app, "namespace": values.namespace, "job": values.job}
    spec = {
        "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
        "endpoints": [
            {
                "port": "metrics",
                "interval": "15s",
                "relabelings": [
                    {"targetLabel": label, "replacement": value} for label, value in labels.items()
                ],
            }
        ],
    }
    # Any JSON is valid YAML, so no YAML library is needed.
    return _head("monitoring.coreos.com/v1", "ServiceMonitor", name) + f"spec: {json.dumps(spec, indent=2)}\n"


def write(folder: Path, texts: Mapping[str, str]) -> Iterator[ProvisionResult]:
    """Write the files to a folder; yield the result of each."""
    for name, text in texts.items():
        path = folder / name
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else None
            if before != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            yield ProvisionResult(kind="file", name=str(path), state=ProvisionState.FAILED, message=str(exc))
            continue
        yield ProvisionResult(kind="file", name=str(path), state=ProvisionState.from_change(before, text))


def _changes(values: ProvisionValues) -> dict[str, str]:
    """Return the replacement of each value of the demo site."""
    return {
        # At the end of a line it is the datasource's address; links continue with a path.
        f"{_SQL_LOG}\n": f"{values.url}\n",
        _SQL_LOG: values.browser_url,
        "$SQLLOGS_TOKEN": f"${values.token_variable}",
        "url: http://localhost:9090": f"url: {values.prometheus_url}",
        "url: http://localhost:3100": f"url: {values.loki_url}",
        "url: http://localhost:3200": f"url: {values.tempo_url}",
        "path: /var/lib/grafana/dashboards": f"path: {json.dumps(values.dashboards_path)}",
        "job_name: django": f"job_name: {json.dumps(values.job)}",
        'up{job="django"}': f"up{{job={json.dumps(values.job)}}}",
        "[localhost:9110]": f"[{json.dumps(values.metrics_target)}]",
        "app: somesite": f"app: {json.dumps(values.app)}",
        "namespace: default": f"namespace: {json.dumps(values.namespace)}",
        **_references(_existing_uids(values)),
    }


def _references(uids: Mapping[str, str]) -> dict[str, str]:
    """Return the replacements of references to uids, in JSON, YAML and links."""
    forms = ('"{}"', ": {}\n", "%22{}%22")
    return {form.format(ours): form.format(theirs) for ours, theirs in uids.items() for form in forms}


def _existing_uids(values: ProvisionValues) -> dict[str, str]:
    """Return the uids of existing datasources by our uids."""
    given = {
        "django-prometheus": values.prometheus_uid,
        "django-loki": values.loki_uid,
        "django-tempo": values.tempo_uid,
    }
    return {ours: theirs for ours, theirs in given.items() if theirs}


def _without(text: str, uids: Mapping[str, str]) -> str:
    """Remove datasources from their file."""
    head, *parts = re.split(r"^(?=  - name: \w)", text, flags=re.MULTILINE)
    kept = [part for part in parts if not any(f"\n    uid: {uid}\n" in part for uid in uids)]
    return head + "".join(kept)
