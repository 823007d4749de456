"""How the ring behaves as it grows: the list by each kind of filter, and the writer, on SQLite."""

from collections.abc import Callable
from statistics import median
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from benchmarks.asking import answer  # noqa: E402
from benchmarks.report import at_least, at_most, table  # noqa: E402
from benchmarks.rounds import timed  # noqa: E402
from benchmarks.stores import fill, recorder, ring  # noqa: E402
from sqllogs.api import tokens  # noqa: E402
from sqllogs.api.views import RecordList  # noqa: E402
from sqllogs.models import SQLLog  # noqa: E402

CAPACITIES = (10_000, 100_000, 1_000_000)
ROWS_AT_ONCE = 50_000
ROUNDS = 5
LIST_MS_MAX = 50
ROWS_PER_S_MIN = 50_000
FILTERS = {
    "newest": "",
    "the last minutes": "from=now-5m",
    "duration, many match": "min_ms=0.041",
    "duration, none match": "min_ms=1000",
    "one view": "view=shop.views.view_7",
    "no such route": "route=nowhere",
    "one trace": "trace_id={trace_id}",
    "one request": "request_id=request-40",
    "one statement": "fingerprint={fingerprint}",
    "text": "search=shop_table_77",
    "table": "table=shop_table_77",
    "call site": "call_site=views_7.py",
    "failed": "error=true",
    "view, duration and text": "view=shop.views.view_7&min_ms=0.044&search=shop_table_7",
    "slowest first": "ordering=-duration_ms",
    "slowest first of one view": "ordering=-duration_ms&view=shop.views.view_7",
    "most rows first": "ordering=-rows",
}


def main() -> None:
    rows = [row for capacity in CAPACITIES for row in _measured(capacity)]
    table(
        "A ring that grows, SQLite: 100 records by filter, and the writer",
        ("rows", "what", "ms, or rows/s", "goal"),
        rows,
    )


def _measured(capacity: int) -> list[tuple[object, ...]]:
    with ring("sqlite", capacity):
        call_command("migrate", database="default", verbosity=0)
        recording = recorder(statistics_rows_max=0)
        speeds = [_write(recording) for _ in range(max(1, capacity // ROWS_AT_ONCE))]
        recording.ring.close()
        headers = {"Authorization": f"Bearer {tokens.create('growth')}"}
        ids = SQLLog.objects.filter(slot=capacity // 2).values("trace_id", "fingerprint")[0]
        view = RecordList.as_view()
        lists = [
            (name, _list_ms(view, f"/?limit=100&{query.format(**ids)}", headers))
            for name, query in FILTERS.items()
        ]
    goals = capacity == CAPACITIES[-1]
    return [
        (capacity, "writer, rows/s", speeds[-1], at_least(speeds[-1], ROWS_PER_S_MIN) if goals else ""),
        *((capacity, name, ms, at_most(ms, LIST_MS_MAX, "ms") if goals else "") for name, ms in lists),
    ]


def _write(recording: Any) -> float:
    fill(recording, ROWS_AT_ONCE)
    return 1e6 / timed(recording.delivery.write_all, ROWS_AT_ONCE).wall_us


def _list_ms(view: Callable[..., Any], path: str, headers: dict[str, str]) -> float:
    answer(view, path, headers)
    return median(timed(lambda: answer(view, path, headers), 1).wall_us / 1000 for _ in range(ROUNDS))


if __name__ == "__main__":
    main()
