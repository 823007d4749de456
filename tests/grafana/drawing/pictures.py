"""Draw dashboards of a running site: a picture and a report of each, by a browser that shows the page.

Fed by tests/monitored.py; feeds docs/images and tests/grafana/test_pictures.py.
"""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.grafana.drawing.page import bundled
from tests.grafana.drawing.server import serving
from tests.grafana.infinity import Infinity
from tests.programs import CHROMIUM, NODE, find

TIMEOUT_S = 300
"""Of one picture, on a busy machine."""


def draw(site, jobs: Iterable[dict], folder: Path) -> list[dict]:
    """Write the pictures to a folder; return the reports, one for each job."""
    page = bundled()
    jobs = list(jobs)
    infinity = Infinity.provisioned(site.server.url, site.token)
    with serving(page / "dist", infinity, site.prometheus.url) as url:
        command = [find(NODE), page / "shoot.mjs", find(CHROMIUM), url, folder, json.dumps(jobs)]
        limit_s = TIMEOUT_S * len(jobs)
        done = subprocess.run(command, cwd=page, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"{job['name']}.json").read_text()) for job in jobs]


def job(uid: str, theme: str = "dark", span_s: int = 900, to_ms: int | None = None, **variables: str) -> dict:
    """Return one picture's description, until now by default; `variables` are those of the dashboard."""
    query = (
        f"&span_s={span_s}"
        + (f"&to={to_ms}" if to_ms else "")
        + "".join(f"&var-{name}={value}" for name, value in variables.items())
    )
    return {"name": f"{uid}-{theme}", "uid": uid, "theme": theme, "query": query}
