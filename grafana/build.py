"""Write every dashboard as JSON: `python -m grafana.build`.

Fed by the dashboard modules; Grafana's provisioning reads what it writes.
"""

import json
import os
from pathlib import Path

import django
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import models, overview, requests_by_view, requests_overview, sql_logs
from grafana.infinity import Shared

DIRECTORY = Path(__file__).parent / "dashboards"
_MODULES = (overview, requests_overview, requests_by_view, models, sql_logs)


def dashboards() -> dict[str, str]:
    """Return the JSON text of each dashboard by file name; the same on every run."""
    return {f"{module.UID}.json": _text(module) for module in _MODULES}


def _text(module: object) -> str:
    built = module.build().build()  # type: ignore[attr-defined]
    ids = {}
    for number, panel in enumerate(built.panels, start=1):
        panel.id_val = ids[panel.title] = number
    for panel in built.panels:
        for target in getattr(panel, "targets", None) or ():
            if isinstance(target, Shared):
                target.panel_id = ids[target.title]
    return json.dumps(built, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
    django.setup()  # for the words of findings
    for name, text in dashboards().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
