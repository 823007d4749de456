"""All faults, each with what must hold when it has happened; a row that does not hold is NOT MET.

Read by `make faults` and by the tests. The order is that of a query's path: processes, the store, capture,
delivery elsewhere, readers.
"""

import signal

from tests.faults import outages, readers, servers
from tests.faults.capture_rows import CAPTURE, ELSEWHERE
from tests.faults.outcome import (
    AS_STORED,
    BALANCED,
    COMPLETE,
    COUNTED,
    FLUSHED,
    LOST_AN_INTERVAL,
    NO_DUPLICATES,
    NO_ERRORS,
    NONE_DROPPED,
    NONE_LOST,
    NONE_QUEUED,
    P99,
    QUIET,
    RECOVERED,
    SILENT_SERVER,
    Check,
    Fault,
    figure,
    sent_and_stored,
)
from tests.faults.program_runs import (
    Program,
    celery_stopped,
    commit_not_confirmed,
    fork_while_store_hangs,
    new_release_behind_pgbouncer,
)
from tests.faults.servers import GEVENT, GUNICORN, THREADS, UVICORN, UWSGI, Served, uwsgi

UNHURT = (NO_ERRORS, P99)
"""The application does not notice."""
MS_OF_A_FORK = 100

WORKERS = {"sync": GUNICORN, "gthread": THREADS, "gevent": GEVENT}
ENDS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
PROCESSES = (
    Fault(
        name="kill -9 of a gunicorn worker under load",
        run=Served(command=(*GUNICORN, "--threads=2"), happen=servers.kill_worker),
        checks=(BALANCED, LOST_AN_INTERVAL, NONE_DROPPED),
        in_ci=True,
    ),
    *(
        Fault(
            name=f"{signal.Signals(signum).name} of gunicorn {kind}",
            run=Served(command=command, happen=servers.nothing, at_end=True, signum=signum),
            # SIGQUIT ends a worker at once: answers under way are cut, and none that was given is lost.
            checks=(*COMPLETE, SILENT_SERVER) if signum == signal.SIGTERM else COMPLETE,
            in_ci=(kind, signum) == ("gevent", signal.SIGQUIT),
        )
        for kind, command in WORKERS.items()
        for signum in ENDS
    ),
    Fault(
        name="SIGTERM of uvicorn",
        run=Served(command=UVICORN, happen=servers.nothing, at_end=True),
        checks=COMPLETE,
    ),
    *(
        Fault(
            name=f"uWSGI {name}",
            run=Served(program=UWSGI, command=uwsgi(*options), happen=servers.nothing, at_end=True),
            checks=(*COMPLETE, SILENT_SERVER),
        )
        for name, options in {
            "plain": ("--processes=2",),
            "--enable-threads": ("--processes=2", "--enable-threads", "--threads=2"),
            "--lazy-apps": ("--processes=2", "--lazy-apps"),
            "4 processes": ("--processes=4",),
        }.items()
    ),
    Fault(
        name="uWSGI reload under load",
        run=Served(
            program=UWSGI,
            command=uwsgi("--processes=2", "--enable-threads"),
            happen=servers.reload_uwsgi,
            at_end=True,
        ),
        checks=(*COMPLETE, SILENT_SERVER, figure("it reloads", lambda seen: seen["reloaded"])),
    ),
    Fault(
        name="Celery prefork worker stopped after its last task",
        run=celery_stopped,
        checks=(BALANCED, NONE_DROPPED, NONE_QUEUED, AS_STORED),
    ),
    Fault(
        name="end of multiprocessing children",
        run=Program(name="children", arguments=(500,), short=(50,)),
        checks=(*COMPLETE, sent_and_stored(), QUIET),
    ),
    Fault(
        name="multiprocessing.Pool as a context manager, which kills its processes",
        run=Program(name="pool", arguments=(200,), short=(20,)),
        checks=(*COMPLETE, sent_and_stored(), QUIET),
    ),
    Fault(
        name="fork while PostgreSQL hangs",
        run=fork_while_store_hangs,
        checks=(
            BALANCED,
            figure(
                f"a fork takes at most {MS_OF_A_FORK} ms",
                lambda seen: seen["fork_ms"] <= MS_OF_A_FORK,
                timed=True,
            ),
        ),
    ),
)

AWAY = (*COUNTED, *UNHURT, RECOVERED)
NOTICED = figure("health reports it", lambda seen: bool(seen.get("noticed")))
STORE = (
    Fault(
        name="PostgreSQL store stopped",
        run=Served(command=THREADS, vendor="postgresql", to_store=True, happen=outages.stop),
        checks=(*AWAY, *COMPLETE),
        in_ci=True,
    ),
    *(
        Fault(
            name=f"MariaDB store {name}",
            run=Served(command=THREADS, vendor="mariadb", to_store=True, happen=happen),
            checks=(*AWAY, *COMPLETE),
        )
        for name, happen in {
            "stopped": outages.stop,
            "killed": outages.kill,
            "hangs (SIGSTOP)": outages.hang,
            "locked, as by a migration": outages.lock_mariadb,
        }.items()
    ),
    Fault(
        name="PostgreSQL store hangs (SIGSTOP)",
        run=Served(command=THREADS, vendor="postgresql", to_store=True, happen=outages.hang),
        checks=(*AWAY, *COMPLETE),
    ),
    Fault(
        name="PostgreSQL killed in COMMIT",
        run=Served(command=THREADS, vendor="postgresql", to_store=True, happen=outages.kill_in_commit),
        checks=(
            *AWAY,
            NO_DUPLICATES,
            NONE_LOST,
            figure("a COMMIT was at work", lambda seen: seen["caught_in_commit"] > 0),
        ),
    ),
    Fault(
        name="COMMIT done and not confirmed, five times",
        run=commit_not_confirmed,
        checks=(
            *COMPLETE,
            NO_DUPLICATES,
            Check(text="2,000 records", holds=lambda one: one.ring is not None and one.ring.rows == 2_000),
            figure("five answers were cut off", lambda seen: seen["cut"] == 5),
        ),
    ),
    Fault(
        name="release with new columns behind pgbouncer in transaction mode",
        run=new_release_behind_pgbouncer,
        checks=(*COMPLETE, QUIET, FLUSHED),
    ),
    Fault(
        name="PostgreSQL table locked, as by a migration",
        run=Served(command=THREADS, vendor="postgresql", to_store=True, happen=outages.lock_migration),
        checks=(*AWAY, *COMPLETE),
    ),
    Fault(
        name="SQLite store locked for 10 s, gevent",
        run=Served(command=GEVENT, to_store=True, happen=outages.lock),
        checks=(
            *AWAY,
            *COMPLETE,
            figure("no request takes 2 s", lambda seen: seen["max_ms"] < 2_000, timed=True),
        ),
    ),
    Fault(
        name="SQLite store deleted while running, restored later",
        run=Served(command=THREADS, to_store=True, happen=outages.delete),
        checks=(BALANCED, *UNHURT, RECOVERED, NOTICED),
    ),
    Fault(
        name="SQLite store replaced while running",
        run=Served(command=THREADS, to_store=True, happen=outages.replace),
        checks=(BALANCED, *UNHURT, RECOVERED),
    ),
    Fault(
        name="SQLite store corrupted while running, restored later",
        run=Served(command=THREADS, to_store=True, happen=outages.damage),
        checks=(BALANCED, *UNHURT, RECOVERED, NOTICED),
    ),
    Fault(
        name="tables missing, migrated under load",
        run=Served(command=THREADS, to_store=True, happen=outages.drop_tables),
        checks=(BALANCED, *UNHURT, RECOVERED),
    ),
    Fault(
        name="disk of the store full, freed later",
        run=Served(command=THREADS, to_store=True, happen=outages.fill_disk, small_disk=True),
        checks=(*COUNTED, *UNHURT, RECOVERED),
    ),
    *(
        Fault(
            name=f"4 processes wrap a ring of 1,000 on {vendor}",
            run=Program(
                name="wrap", arguments=(40, 150), short=(10, 150), vendor=vendor, processes=4,
                changes={"CAPACITY_ROWS": 1_000},
            ),
            checks=(
                BALANCED, NONE_DROPPED, NONE_QUEUED, AS_STORED, FLUSHED, QUIET,
                Check(
                    text="exactly the newest 1,000",
                    holds=lambda one: one.ring is not None
                    and (one.ring.rows, one.ring.last) == (1_000, one.ring.head)
                    and one.ring.last - one.ring.first == 999,
                ),
            ),
            in_ci=vendor == "sqlite",
        )
        for vendor in ("sqlite", "postgresql", "mariadb")
    ),
)  # fmt: skip

HEALTH_MAX_MS = 5_000
READERS = (
    *(
        Fault(
            name=f"{readers.READERS} readers of {readers.DAYS} days at once, {vendor}",
            run=readers.many_readers(vendor),
            checks=(
                NO_ERRORS,
                figure("each 503 has Retry-After", lambda seen: seen["without_retry_after"] == 0),
                figure(
                    f"the site's own health check answers within {HEALTH_MAX_MS / 1000:g} s",
                    lambda seen: seen["health_max_ms"] <= HEALTH_MAX_MS,
                    timed=True,
                ),
            ),
        )
        for vendor in ("sqlite", "postgresql", "mariadb")
    ),
    Fault(
        name="deep pages in every order beside the site's health check",
        run=readers.deep_paging,
        checks=(
            NO_ERRORS,
            figure(
                f"the site's own health check answers within {HEALTH_MAX_MS / 1000:g} s",
                lambda seen: seen["health_max_ms"] <= HEALTH_MAX_MS,
                timed=True,
            ),
        ),
    ),
    Fault(
        name="token in a header, foreign addresses in parameters",
        run=readers.secrets_and_addresses,
        checks=(
            figure(
                "the token reads, and only in its header",
                lambda seen: (seen["read"], seen["by_query"]) == (200, 401),
            ),
            figure("no address is called", lambda seen: not seen["called"]),
            figure("no file has the token", lambda seen: seen["with_token"] == []),
        ),
    ),
    Fault(
        name="statements explained on a running site",
        run=readers.explained,
        checks=(
            figure("each has a plan", lambda seen: seen["plans"] == seen["statements"] > 0),
            figure("nothing is recorded", lambda seen: not seen["recorded"]),
        ),
    ),
    Fault(
        name="two projects in one ring",
        run=readers.two_projects,
        checks=(
            *COUNTED,
            figure("each has its own statistics", lambda seen: seen["services"] == ["blog", "shop"]),
            figure("each has its queries", lambda seen: seen["fewest"] >= seen["sent"]),
        ),
    ),
    Fault(name="malformed API parameters", run=readers.malformed, checks=(NO_ERRORS,)),
    Fault(
        name="anonymous reader, all routes and methods",
        run=readers.anonymous,
        checks=(NO_ERRORS,),
        in_ci=True,
    ),
    Fault(
        name="markup and formulas in SQL text and names",
        run=readers.hostile_text,
        checks=(
            figure("page and export answer", lambda seen: (seen["page"], seen["csv"]) == (200, 200)),
            figure("markup is text", lambda seen: not seen["markup"]),
            figure("formulas are text", lambda seen: not seen["formulas"]),
        ),
    ),
    Fault(
        name="metrics port asked with a foreign Host",
        run=readers.foreign_host,
        checks=(
            figure("its own host is answered", lambda seen: seen["own"] == 200),
            figure("a foreign one is refused", lambda seen: 400 <= seen["foreign"] < 500),
        ),
    ),
    Fault(
        name="client chooses trace ids to be kept, SAMPLE=0.01",
        run=readers.client_decides,
        checks=(BALANCED, figure("at most 10 of its 100 are kept", lambda seen: seen["kept"] <= 10)),
    ),
)

FAULTS = (*PROCESSES, *STORE, *CAPTURE, *ELSEWHERE, *READERS)
