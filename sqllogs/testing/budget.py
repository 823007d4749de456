"""The budget file: how many queries each test may send, by operation and tables.

`query_budget` reads and writes it at the end of a test, in any process: with a lock and an atomic replacement
of the whole file, parallel updates add up.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from sqllogs.testing.query import Query

FILE = "query_budget.json"
FILE_VARIABLE = "SQLLOGS_BUDGET_FILE"
UPDATE_VARIABLE = "SQLLOGS_UPDATE_BUDGET"

Budget = dict[str, int]
"""Queries by what they do, as in `SELECT shop_book, shop_author`."""


def of_queries(queries: Sequence[Query]) -> Budget:
    """Return the budget that these queries would just keep to."""
    return dict(sorted(Counter(kind(query) for query in queries).items()))


def kind(query: Query) -> str:
    """Return what a query does, without columns and conditions: those change too often to be reviewed."""
    return f"{query.operation} {', '.join(query.tables)}".strip()


def path() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or FILE).absolute()


def is_updated() -> bool:
    """Whether this run writes budgets instead of holding tests to them."""
    return os.environ.get(UPDATE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def load(test: str) -> Budget | None:
    """Return the budget of a test, if it has one."""
    return _read(path()).get(test)


def save(test: str, budget: Budget) -> None:
    """Set the budget of a test; the others stay as they are."""
    file = path()
    with _locked(file):
        budgets = _read(file)
        if budgets.get(test) != budget:
            _write(file, dict(sorted((budgets | {test: budget}).items())))


def _read(file: Path) -> dict[str, Budget]:
    try:
        budgets: dict[str, Budget] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as exc:
        raise ValueError(
            f"{file} is not JSON ({exc}). Fix it, or delete it and run again with --sqllogs-update-budget."
        ) from exc
    return budgets


def _write(file: Path, budgets: dict[str, Budget]) -> None:
    """Put a new file in the old one's place, so that a reader sees one or the other, whole."""
    with NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as made:
        json.dump(budgets, made, indent=2, ensure_ascii=False)
        made.write("\n")
    if file.exists():
        os.chmod(made.name, file.stat().st_mode)
    else:
        os.chmod(made.name, 0o644)
    os.replace(made.name, file)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep out the other processes of the run; the lock ends with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # Windows has none; a run with one process needs none.
        yield
        return
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
