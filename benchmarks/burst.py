"""Send 200,000 queries as fast as threads can: every loss must be counted."""

import time
from dataclasses import replace
from threading import Thread

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from benchmarks.report import table  # noqa: E402
from sqllogs import conf  # noqa: E402
from sqllogs.models import RingHead  # noqa: E402
from sqllogs.recorder import Recorder  # noqa: E402

THREADS = 4
QUERIES = 200_000


def main() -> None:
    call_command("migrate", database="sqllogs", verbosity=0)
    recorder = Recorder(replace(conf.load(), enabled=True))
    recorder.install()
    started_s = time.perf_counter()
    threads = [Thread(target=_send) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    burst_s = time.perf_counter() - started_s
    at_end = recorder.delivery.counts()
    recorder.writer.stop(60.0)
    drained_s = time.perf_counter() - started_s - burst_s
    counts = recorder.delivery.counts()
    in_ring = RingHead.objects.get().seq
    accounted = counts.stored + sum(counts.dropped.values()) + counts.queued
    kept = counts.captured == QUERIES == accounted and in_ring == counts.stored
    table(
        f"Burst of {QUERIES:,} queries by {THREADS} threads",
        ("queries/s", "captured", "stored", "dropped", "queued at its end", "drained after s", "goal"),
        [
            (
                QUERIES / burst_s,
                counts.captured,
                counts.stored,
                ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.items()) or "none",
                at_end.queued,
                drained_s,
                f"captured = stored + dropped + queued: {'met' if kept else 'NOT met'}",
            )
        ],
    )


def _send() -> None:
    try:
        with connection.cursor() as cursor:
            for _ in range(QUERIES // THREADS):
                cursor.execute("SELECT 1")
    finally:
        connection.close()


if __name__ == "__main__":
    main()
