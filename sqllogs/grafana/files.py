"""The provisioning, dashboards and rules of `grafana/` as texts, and how they are written.

Fed by the files themselves, the one copy there is, and by `Values`; feeds `--output` and,
through `sqllogs.grafana.push`, `--push`.

What became of one file or one object of Grafana; printed by `manage.py provision_grafana`.

What differs from project to project: addresses, labels, the token's variable.

Fed by the options of `manage.py provision_grafana`, feeds `sqllogs.grafana.files`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqllogs.errors import ProvisioningError


class ProvisionState(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"

    @classmethod
    def from_change(cls, before: object, after: object) -> "ProvisionState":
        """Return the state of what was `before`, None if it was not there, and is `after` now."""
        if before is None:
            return cls.CREATED
        return cls.UNCHANGED if before == after else cls.UPDATED


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionResult:
    kind: str
    name: str
    state: ProvisionState
    words: str = ""
    """Why it failed, in the words of who refused it; or what else there is to say."""


# Narrow enough to stand in YAML and in JSON as it is: no blank, no quote, no `$`, `#` or `@`.
_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w.~%/-]*)?", re.ASCII)
_LABEL = re.compile(r"[\w.:/-]+", re.ASCII)
_UID = re.compile(r"[\w-]{1,40}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TARGET = re.compile(r"[\w.\[\]:-]+:\d+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionValues:
    """The values of a project; raises ProvisioningError for one that a file could not hold."""

    url: str
    """The SQL log, as Grafana's own process reaches it."""
    browser_url: str
    """The SQL log, as the reader's browser reaches it: for links."""
    token_variable: str
    """Environment variable with the token that may read the SQL log."""
    app: str
    namespace: str
    job: str
    metrics_target: str
    """Host and port at which Prometheus finds the metrics."""
    prometheus_url: str
    loki_url: str
    tempo_url: str
    prometheus_uid: str
    """uid of a datasource that Grafana has already; empty for ours. So are the next two."""
    loki_uid: str
    tempo_uid: str
    dashboards_path: str
    """Folder in which Grafana's own process finds the dashboards."""

    def __post_init__(self) -> None:
        for name in ("url", "browser_url", "prometheus_url", "loki_url", "tempo_url"):
            self._check(name, _URL, "an address as https://host:port/path/, without user, password or query")
        for name in ("app", "namespace", "job"):
            self._check(name, _LABEL, "letters, digits and any of _.:/-")
        for name in ("prometheus_uid", "loki_uid", "tempo_uid"):
            if getattr(self, name):
                self._check(name, _UID, "up to 40 letters, digits, - and _")
        self._check("token_variable", _VARIABLE, "the name of an environment variable, not the token itself")
        self._check("metrics_target", _TARGET, "host:port")

    def _check(self, name: str, pattern: re.Pattern[str], wanted: str) -> None:
        value = getattr(self, name)
        if pattern.fullmatch(value):
            return
        # A token given by mistake must not come back on the screen.
        told = "" if name == "token_variable" else f" {value!r}"
        raise ProvisioningError(f"--{name.replace('_', '-')}{told} is not valid: it takes {wanted}.")


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
_SQL_LOG = "http://localhost:8000/sql-logs/"


def rendered(values: ProvisionValues) -> dict[str, str]:
    """Return every file's text by its path, with the values of a project in it."""
    root = _INSTALLED if (_INSTALLED / "dashboards").is_dir() else _CLONED
    paths = [path for pattern in _PATTERNS for path in sorted(root.glob(pattern))]
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}
    texts[DATASOURCES] = _without(texts[DATASOURCES], _taken(values))
    changes = _changes(values)
    # In one pass, or a value that looks like another one's original would be changed again.
    originals = re.compile("|".join(re.escape(text) for text in sorted(changes, key=len, reverse=True)))
    return {path: originals.sub(lambda found: changes[found[0]], text) for path, text in texts.items()}


def write(folder: Path, texts: Mapping[str, str]) -> Iterator[ProvisionResult]:
    """Write the files below a folder; tell of each what became of it."""
    for name, text in texts.items():
        path = folder / name
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else None
            if before != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            yield ProvisionResult(kind="file", name=str(path), state=ProvisionState.FAILED, words=str(exc))
            continue
        yield ProvisionResult(kind="file", name=str(path), state=ProvisionState.from_change(before, text))


def _changes(values: ProvisionValues) -> dict[str, str]:
    """Return what takes the place of each value of the demo site."""
    return {
        # At the end of a line it is where Grafana asks; links go on.
        f"{_SQL_LOG}\n": f"{values.url}\n",
        _SQL_LOG: values.browser_url,
        "$SQLLOGS_TOKEN": f"${values.token_variable}",
        "url: http://localhost:9090": f"url: {values.prometheus_url}",
        "url: http://localhost:3100": f"url: {values.loki_url}",
        "url: http://localhost:3200": f"url: {values.tempo_url}",
        "path: /var/lib/grafana/dashboards": f"path: {json.dumps(values.dashboards_path)}",
        "job_name: django": f"job_name: {json.dumps(values.job)}",
        "[localhost:9110]": f"[{json.dumps(values.metrics_target)}]",
        "app: somesite": f"app: {json.dumps(values.app)}",
        "namespace: default": f"namespace: {json.dumps(values.namespace)}",
        **_references(_taken(values)),
    }


def _references(uids: Mapping[str, str]) -> dict[str, str]:
    """Return what takes the place of uids where they refer to something, in JSON, YAML and links."""
    forms = ('"{}"', ": {}\n", "%22{}%22")
    return {form.format(ours): form.format(theirs) for ours, theirs in uids.items() for form in forms}


def _taken(values: ProvisionValues) -> dict[str, str]:
    """Return the uids of datasources that are there already, by ours."""
    given = {
        "django-prometheus": values.prometheus_uid,
        "django-loki": values.loki_uid,
        "django-tempo": values.tempo_uid,
    }
    return {ours: theirs for ours, theirs in given.items() if theirs}


def _without(text: str, uids: Mapping[str, str]) -> str:
    """Take datasources out of their file."""
    head, *parts = re.split(r"^(?=  - name: \w)", text, flags=re.MULTILINE)
    kept = [part for part in parts if not any(f"\n    uid: {uid}\n" in part for uid in uids)]
    return head + "".join(kept)
