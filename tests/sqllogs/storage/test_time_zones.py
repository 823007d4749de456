"""What is stored is UTC, whatever USE_TZ, TIME_ZONE and the database are."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from sqllogs import conf
from sqllogs.storage.ring import Ring
from tests.sqllogs.factories import changed
from tests.sqllogs.storage.test_ring import TALLIES, batch

TIMES = (
    ("sqllogs_query", "time"),
    ("sqllogs_statement", "first_seen"),
    ("sqllogs_process", "started_at"),
    ("sqllogs_process", "updated_at"),
    ("sqllogs_event", "time"),
)


def epoch(vendor, table, column):
    """Let the database itself compute the seconds since the epoch, as it would in another project."""
    if table == "sqllogs_query":
        return f"{column} / 1000000"
    return {
        "sqlite": f"CAST(strftime('%s', {column}) AS integer)",
        "postgresql": f"CAST(extract(epoch FROM {column}) AS bigint)",
        "mysql": f"TIMESTAMPDIFF(SECOND, '1970-01-01', {column})",
    }[vendor]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])  # 14 h before and 11 h after
@pytest.mark.parametrize("use_tz", [False, True])
def test_times_are_stored_in_utc(use_tz, zone, ring_alias, settings):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    settings.SQLLOGS = {**settings.SQLLOGS, "RELEASE": "1.0"}
    now = datetime.now(UTC)
    ring = Ring(conf.load())
    written = batch(1)
    written.records[0] = changed(written.records[0], time=now)
    ring.write(ring.reserve(1), written, TALLIES)
    ring.close()
    connection = connections[ring_alias]
    with connection.cursor() as cursor:
        for table, column in TIMES:
            cursor.execute(f"SELECT {epoch(connection.vendor, table, column)} FROM {table}")
            stored = datetime.fromtimestamp(float(cursor.fetchone()[0]), UTC)
            tolerance = timedelta(hours=1, minutes=1) if column == "first_seen" else timedelta(minutes=1)
            assert abs(stored - now) < tolerance, (table, column)
        cursor.execute("SELECT time FROM sqllogs_statistic WHERE resolution_s = 60")
        assert abs(cursor.fetchone()[0] - now.timestamp()) < 61
