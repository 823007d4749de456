"""The marker `programs`, set on each test that starts servers, a browser, or stops the database; the order.

Found by the fixtures that a test asks for, so that no test can forget it. `-m "not programs"`
leaves these tests out: tests/matrix.py does on most corners, since they take a third of the time.
Workers of xdist begin with the files that take longest.
"""

from pathlib import Path

import pytest

FIXTURES = frozenset({"site", "chromium", "fragile_postgresql"})

ROOT = Path(__file__).parents[1]
LONGEST = (
    "sqllogs/findings/test_examples.py", "incidents/test_incidents.py",
    "sqllogs/cli/test_setup.py", "core/test_prometheus.py", "sqllogs/page/test_stories.py",
    "sqllogs/test_fresh_project.py", "sqllogs/test_process_ends.py", "core/test_exporting.py",
    "sqllogs/test_servers.py", "sqllogs/read/test_parts_cache.py", "faults/test_faults.py",
    "sqllogs/storage/test_ring_processes.py", "grafana/test_pictures.py", "grafana/test_links.py",
    "core/test_demo.py",
    "core/test_telemetry.py", "sqllogs/read/test_block_index.py", "sqllogs/metrics/test_exporter.py",
    "grafana/test_infinity.py", "sqllogs/statistics/test_counting.py", "sqllogs/test_celery.py",
    "sqllogs/statistics/test_processes.py", "core/test_virtualenv.py", "sqllogs/cli/test_mcp.py",
    "sqllogs/admin/test_projects.py", "sqllogs/pipeline/test_gevent.py", "sqllogs/test_background_jobs.py",
    "sqllogs/api/test_hosts.py", "sqllogs/testing/test_budget.py", "sqllogs/cli/test_terminal_ends.py",
    "sqllogs/pipeline/test_outage.py", "sqllogs/test_units.py", "sqllogs/admin/test_hosts.py",
    "sqllogs/admin/test_urls.py",
)  # fmt: skip
"""Files of half a minute to two, which have few tests.

xdist gives out the files with the most tests first, so it began these when others had little left to do.
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # in one process, tests that fail quickly come first
        places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if not FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.programs)
