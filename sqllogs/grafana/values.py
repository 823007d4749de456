"""What differs from project to project: addresses, labels, the token's variable.

Fed by the options of `manage.py provision_grafana`, feeds `sqllogs.grafana.files`.
"""

import re
from dataclasses import dataclass

from sqllogs.errors import ProvisioningError

# Narrow enough to stand in YAML and in JSON as it is: no blank, no quote, no `$`, `#` or `@`.
_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w.~%/-]*)?", re.ASCII)
_LABEL = re.compile(r"[\w.:/-]+", re.ASCII)
_UID = re.compile(r"[\w-]{1,40}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TARGET = re.compile(r"[\w.\[\]:-]+:\d+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
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
