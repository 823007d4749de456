"""Faults of capture and of delivery elsewhere: bursts, hostile values, interrupts, OTLP backends.

Programs of `tests.faults.programs`; joined with the other rows in `tests.faults.rows`.
"""

from tests.faults.outcome import (
    BALANCED,
    COMPLETE,
    COUNTED,
    FLUSHED,
    NONE_QUEUED,
    QUIET,
    Check,
    Fault,
    figure,
)
from tests.faults.program_runs import Program, otlp
from tests.faults.start_up import capture_off, pytest_plugin

MS_OF_A_LONG_STATEMENT = 1.0
MS_OF_HOSTILE_TEXT = 50
TEXTS = "SELECT count(*) FROM sqllogs_statement"
MB_OF_A_BURST = 64
"""BUFFER_BYTES is 32 MiB, as the tuples count; the allocator keeps some more."""


CAPTURE = (
    Fault(
        name="burst of queries, as fast as they can be sent",
        run=Program(name="burst", arguments=(200_000,), short=(50_000,)),
        checks=(
            *COUNTED, FLUSHED, QUIET,
            figure(
                f"memory grows by at most {MB_OF_A_BURST} MB", lambda seen: seen["grown_mb"] <= MB_OF_A_BURST
            ),
        ),
        in_ci=True,
    ),
    *(
        Fault(
            name=f"statement of {megabytes} MB",
            run=Program(name="long_statements", arguments=(megabytes,)),
            checks=(
                *COMPLETE, FLUSHED, QUIET,
                figure(
                    f"the caller waits at most {MS_OF_A_LONG_STATEMENT:g} ms longer",
                    lambda seen: seen["added_ms"] <= MS_OF_A_LONG_STATEMENT,
                    timed=True,
                ),
            ),
        )
        for megabytes in (5, 200)
    ),
    Fault(
        name="hostile SQL text of 64 KB",
        run=Program(name="hostile"),
        checks=(
            *COMPLETE, QUIET,
            figure(
                f"at most {MS_OF_HOSTILE_TEXT} ms of the writer",
                lambda seen: seen["slowest_ms"] <= MS_OF_HOSTILE_TEXT,
                timed=True,
            ),
        ),
    ),
    Fault(
        name="records that no database can store",
        run=Program(name="poison"),
        checks=(
            *COUNTED, FLUSHED,
            Check(
                text="all ordinary records are stored",
                holds=lambda one: one.total("stored") >= one.figures["ordinary"]
                and one.dropped.total() <= one.figures["poisons"],
            ),
        ),
        in_ci=True,
    ),
    Fault(
        name="values that cannot be resolved",
        run=Program(name="unresolvable"),
        checks=(
            *COUNTED, FLUSHED,
            Check(
                text="only those records are dropped, at most 5",
                holds=lambda one: one.total("stored") >= one.figures["ordinary"] and one.dropped.total() <= 5,
            ),
        ),
    ),
    Fault(
        name="KeyboardInterrupt and SIGALRM handlers that raise during capture",
        run=Program(name="interrupted", arguments=(1_500,), short=(150,)),
        checks=(
            BALANCED, FLUSHED, NONE_QUEUED,
            figure("all exceptions reach the application", lambda seen: seen["swallowed"] == 0),
        ),
    ),
    Fault(
        name="statement texts beyond the bound",
        run=Program(
            name="many_statements", arguments=(1_000,), changes={"STATEMENTS_MAX": 200},
            after=lambda site: {
                "texts": site.store.rows(TEXTS)[0][0],
                "newest": site.store.rows(f"{TEXTS} WHERE sql LIKE '%column_999%'")[0][0],
            },
        ),
        checks=(
            *COMPLETE,
            figure("the newest statement has its text", lambda seen: seen["newest"] == 1),
            figure("at most 10 % over the bound", lambda seen: seen["texts"] <= 220),
        ),
    ),
    Fault(
        name="300,000 queries of one task in 15 s",
        run=Program(
            name="one_unit", arguments=(300_000,), short=(20_000,),
            after=lambda site: {
                "counted": site.store.rows(
                    "SELECT coalesce(sum(calls), 0) FROM sqllogs_statistic WHERE resolution_s = 60"
                )[0][0]
            },
        ),
        checks=(
            *COUNTED, FLUSHED,
            Check(
                text="statistics count every query",
                holds=lambda one: int(one.figures["counted"]) == one.total("captured"),
            ),
        ),
    ),
    Fault(
        name="USE_TZ=False and a time zone that is not UTC",
        run=Program(name="read_everything", environment={"WITH_TZ": "0", "SITE_TIME_ZONE": "Asia/Tokyo"}),
        checks=(
            *COUNTED, QUIET,
            figure("all readers answer", lambda seen: seen["bad"] == []),
            figure("the newest record is of now", lambda seen: 0 <= seen["age_s"] < 60),
        ),
    ),
    Fault(
        name="installed: start of any pytest run",
        run=pytest_plugin,
        checks=(
            figure("Django is not imported", lambda seen: not seen["django"]),
            figure("at most 5 modules", lambda seen: seen["modules"] <= 5),
            figure("it takes at most 50 ms", lambda seen: seen["more_ms"] <= 50, timed=True),
        ),
    ),
    Fault(
        name="installed, capture off: start of manage.py",
        run=capture_off,
        checks=(
            # Half of it are the fields of 17 models, which Django loads whatever is captured.
            figure("memory grows by at most 3 MB", lambda seen: seen["grown_mb"] <= 3),
            figure("CPU time grows by at most 10 %", lambda seen: seen["cpu_ratio"] <= 1.10, timed=True),
        ),
    ),
)  # fmt: skip

SETTLED = ("sent", "sampled_out", "queued")
"""Outcomes that are no loss; of a process that has ended, `queued` says nothing."""
UNSENT = figure("every record is counted as not sent", lambda seen: _not_sent(seen) == 1_200)
DEGRADED = figure("health reports it", lambda seen: seen["status"] == "degraded")


def _not_sent(seen: dict[str, dict[str, int]]) -> int:
    return sum(count for outcome, count in seen["exported"].items() if outcome not in SETTLED)


ELSEWHERE = (
    Fault(
        name="OTLP backend away at the end of the process",
        run=otlp("away"),
        checks=(*COMPLETE, UNSENT, DEGRADED),
    ),
    Fault(name="OTLP backend answers 302", run=otlp("redirects"), checks=(*COMPLETE, UNSENT, DEGRADED)),
    Fault(
        name="process ends before its first OTLP send",
        run=otlp("well"),
        checks=(
            *COMPLETE,
            QUIET,
            figure("every record arrives", lambda seen: seen["received"] == 1_200),
            figure("every record is counted as sent", lambda seen: seen["exported"].get("sent") == 1_200),
        ),
    ),
)
