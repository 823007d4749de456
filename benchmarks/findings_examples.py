"""How often findings in single requests are right: bad and good examples on SQLite, PostgreSQL and MariaDB.

The examples are in tests/sqllogs/findings/examples. Part of `benchmarks.findings`.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import at_least, table
from tests.sqllogs.findings.examples.running import databases_of, figures, judge

VENDORS = ("sqlite",) if "BENCHMARKS_SHORT" in os.environ else ("sqlite", "postgresql", "mariadb")
PRECISION_MIN = 0.95
RECALL_MIN = 0.9


@contextmanager
def _server(vendor: str) -> Iterator[Any]:
    if vendor == "sqlite":
        yield None
    elif vendor == "postgresql":
        from tests.postgresql import Cluster

        with Cluster() as server:
            yield server
    else:
        import tests.mysqldb  # noqa: F401  (before Django's backend is loaded)
        from tests.mariadb import Server

        with Server() as server:
            yield server


def print_examples() -> None:
    """Print a table of all kinds and databases, and the examples that are judged wrongly."""
    rows, wrong = [], []
    for vendor in VENDORS:
        with _server(vendor) as server, tempfile.TemporaryDirectory() as folder:
            found = figures(judge(vendor, databases_of(vendor, Path(folder), server)))
        for one in found.values():
            counts = (one.bad, one.found, one.good, len(one.wrong), len(one.elsewhere))
            goals = (at_least(one.precision, PRECISION_MIN), at_least(one.recall, RECALL_MIN))
            shown = (f"{one.precision:.0%}", f"{one.recall:.0%}")
            rows.append((one.kind, vendor, *counts, *shown, *goals))
            wrong += [(one.kind, vendor, "not found", name) for name in one.missed]
            wrong += [(one.kind, vendor, "wrongly found", name) for name in (*one.wrong, *one.elsewhere)]
    table(
        "Findings in single requests and tasks: examples",
        (
            "kind",
            "database",
            "bad",
            "found",
            "good",
            "wrongly found",
            "in others",
            "precision",
            "recall",
            "goal of precision",
            "goal of recall",
        ),
        rows,
    )
    table("Examples judged wrongly", ("kind", "database", "", "example"), wrong)


if __name__ == "__main__":
    print_examples()
