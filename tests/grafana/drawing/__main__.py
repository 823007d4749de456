"""`make dashboard-pictures`: a picture of each dashboard, dark and light, in docs/images, and their report.

Starts the site with traffic, Prometheus, and the stand-in of Infinity. The report is written beside the
bundle, because it changes on every run.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import django

from tests.grafana.drawing.page import BUILD, bundled
from tests.grafana.drawing.pictures import draw, job
from tests.grafana.infinity import dashboards
from tests.monitored import monitored

IMAGES = Path(__file__).parents[3] / "docs" / "images"
INTERVAL = "5s"
"""Between two scrapes: on a busy machine one takes over a second, and would show a site that is down."""
TRAFFIC_S = int(os.environ.get("TRAFFIC_S", "180"))


def main(*uids: str) -> None:
    """Draw all dashboards, or those named; what is drawn replaces the earlier pictures."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
    django.setup()  # for the addresses of the site
    chosen = uids or [dashboard["uid"] for dashboard in dashboards().values()]
    bundled()  # before the traffic, because it may take minutes
    images = Path(os.environ.get("PICTURES", IMAGES))
    with tempfile.TemporaryDirectory() as folder, monitored(Path(folder), TRAFFIC_S, INTERVAL) as site:
        # Found last of all: otherwise the Overview has none, and the SQL log lists them.
        site.prometheus.wait(lambda: site.prometheus.query('sqllogs_findings{state="open"} > 0'))
        # All of the same time, that of the traffic, however long the pictures take.
        span_s, to_ms = max(300, TRAFFIC_S + 60), int(time.time() * 1000)
        jobs = [job(uid, theme, span_s, to_ms) for uid in chosen for theme in ("dark", "light")]
        reports = draw(site, jobs, BUILD / "pictures")
    images.mkdir(parents=True, exist_ok=True)
    for one in reports:
        shutil.copy(BUILD / "pictures" / f"{one['name']}.png", images / f"{one['name']}.png")
    (BUILD / "report.json").write_text(json.dumps(reports, indent=1))
    print(f"Pictures in {images}, report in {BUILD / 'report.json'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
