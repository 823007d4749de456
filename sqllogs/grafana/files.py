"""The provisioning, dashboards and rules of `grafana/` as texts, and how they are written.

Fed by the files themselves, the one copy there is, and by `Values`; feeds `--output` and,
through `sqllogs.grafana.objects`, `--push`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqllogs.grafana.outcome import Outcome, State
from sqllogs.grafana.values import Values

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


def rendered(values: Values) -> dict[str, str]:
    """Return every file's text by its path, with the values of a project in it."""
    root = _INSTALLED if (_INSTALLED / "dashboards").is_dir() else _CLONED
    paths = [path for pattern in _PATTERNS for path in sorted(root.glob(pattern))]
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}
    texts[DATASOURCES] = _without(texts[DATASOURCES], _taken(values))
    changes = _changes(values)
    # In one pass, or a value that looks like another one's original would be changed again.
    originals = re.compile("|".join(re.escape(text) for text in sorted(changes, key=len, reverse=True)))
    return {path: originals.sub(lambda found: changes[found[0]], text) for path, text in texts.items()}


def write(folder: Path, texts: Mapping[str, str]) -> Iterator[Outcome]:
    """Write the files below a folder; tell of each what became of it."""
    for name, text in texts.items():
        path = folder / name
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else None
            if before != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            yield Outcome(kind="file", name=str(path), state=State.FAILED, words=str(exc))
            continue
        yield Outcome(kind="file", name=str(path), state=State.of(before, text))


def _changes(values: Values) -> dict[str, str]:
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


def _taken(values: Values) -> dict[str, str]:
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
