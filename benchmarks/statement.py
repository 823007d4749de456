"""What scanning a statement costs: new, known, cached, hostile; beside sqlparse and sqlglot if installed."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from statistics import fmean, median

import django

django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.db.models import Count, Exists, F, OuterRef, Q  # noqa: E402

from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.rounds import timed  # noqa: E402
from sqllogs.sql import normalize  # noqa: E402
from sqllogs.sql.normalize import StatementScanner, scan  # noqa: E402

ROUNDS = 15
REPEATS = 200
"""Of the statements in a round of ours; the peers do one."""

KB = 1024
HOSTILE = (
    *("'", '"', "`", "(", ")", "((x", "/*", "/**/", "--\n", "$a", "$a$", "e'\\", "- ", "- ?", "= - 1 "),
    *("1e+", "%s, ", "%(a", "IN (", "IN ((", "IN (?, ", "VALUES (", "(NULL, ", "), (", "ARRAY[?, "),
    *("a.", '"a".', '"A"(', "FROM a, ", "FROM (", "FROM ONLY ", "JOIN ", "EXTRACT(", "INDEX a ", "a AS ("),
    *("WITH a AS (", "a::", "[", "q'[", "'a' ", "'a'--\n", '"a" ', "WHEN a THEN ? ", "WHEN (a = ?) THEN ? "),
    *(
        "IN (CAST(? AS a), ",
        "IN (DATE ?, ",
        "; SET a = ",
        "'\\'",
        'UPDATE t SET "a" = ',
        "%%",
        "CREATE TEMP TABLE ",
    ),
)
"""Repeated to the length wanted, after each of the openings."""
OPENINGS = (
    "",
    "SELECT a FROM t WHERE b IN (",
    "WITH x AS (SELECT 1 FROM t) SELECT - ? ::",
    "'x' ",
    "VALUES (?), (",
)
VENDORS = ("postgresql", "sqlite", "oracle")


def statements() -> list[str]:
    """Return statements of Django's ORM as it sends them, with their parameters apart."""
    users = User.objects.filter(groups=OuterRef("pk"))
    querysets = [
        User.objects.filter(pk=1)[:21],
        User.objects.filter(pk__in=range(20)).order_by("username"),
        User.objects.filter(Q(username="a") | Q(email="b"), last_login__gt=F("date_joined")),
        User.objects.filter(groups__permissions__codename="a").distinct(),
        Permission.objects.select_related("content_type").filter(content_type__app_label="auth"),
        Group.objects.annotate(users=Count("user")).filter(users__gt=1),
        Group.objects.filter(Exists(users), name__icontains="a"),
        User.objects.filter(pk=1).values("pk"),
    ]
    return [queryset.query.sql_with_params()[0] for queryset in querysets]


def cost(texts: Sequence[str]) -> None:
    """Print what the scan of a statement costs by how much of it is known."""
    cached = StatementScanner().scan
    serial = iter(range(10**9))

    def each(call: Callable[[str], object]) -> Callable[[], object]:
        return lambda: [call(text) for _ in range(REPEATS) for text in texts]

    def new(text: str) -> object:
        normalize._described.cache_clear()
        return scan(text, "sqlite")

    ours = {
        "scan, new statement": each(new),
        "scan, new text of a known statement": each(lambda text: scan(text, "sqlite")),
        "cached": each(lambda text: cached(text, "sqlite")),
        "cached, sqlcommenter": each(lambda text: cached(f"{text}/*span='{next(serial)}'*/", "sqlite")),
    }
    costs = {name: _cpu_us(run, REPEATS * len(texts)) for name, run in ours.items()}
    costs |= {
        name: _cpu_us(partial(lambda call: [call(text) for text in texts], call), len(texts))
        for name, call in _peers().items()
    }
    own = costs["scan, new text of a known statement"]
    goals = {
        "scan, new statement": 10,
        "scan, new text of a known statement": 10,
        "cached": 0.5,
        "cached, sqlcommenter": 1,
    }
    table(
        f"Scan of {len(texts)} ORM statements, {fmean(map(len, texts)):,.0f} characters on average",
        ("way", "CPU us a statement", "of scan", "goal"),
        [
            (name, us, us / own, at_most(us, goals[name], "us") if name in goals else "")
            for name, us in costs.items()
        ],
    )


def hostile() -> None:
    """Print the slowest of the texts made to be slow, and how their cost grows from 8 to 64 KB."""
    costs = []
    for unit in HOSTILE:
        for opening in OPENINGS:
            texts = [(opening + unit * (kb * KB))[: kb * KB] for kb in (8, 64)]
            for vendor in VENDORS:
                short, long = (_cpu_us(partial(scan, text, vendor), 1, rounds=3) for text in texts)
                costs.append((long / 1000, short / 1000, f"{vendor}: {opening}{unit}"))
    slowest = sorted(costs, reverse=True)[:8]
    table(
        f"Hostile text, the slowest 8 of {len(costs)}",
        ("text, repeated", "8 KB, ms", "64 KB, ms", "64 / 8 KB", "goal"),
        [
            (f"`{unit!r}`", short, long, long / short, at_most(long, 50, "ms"))
            for long, short, unit in slowest
        ],
    )


def _cpu_us(run: Callable[[], object], calls: int, rounds: int = ROUNDS) -> float:
    run()
    return median(timed(run, calls).cpu_us for _ in range(rounds))


def _peers() -> dict[str, Callable[[str], object]]:
    """Return how others parse a statement, as a normaliser on top of them would have to first."""
    peers: dict[str, Callable[[str], object]] = {}
    if find_spec("sqlglot"):
        parse_one = import_module("sqlglot").parse_one
        # The placeholder of Django is no SQL to it.
        peers["sqlglot, parsed and written"] = lambda text: parse_one(text.replace("%s", "?")).sql()
    if find_spec("sqlparse"):
        sqlparse = import_module("sqlparse")
        peers["sqlparse, formatted"] = lambda text: sqlparse.format(
            text, keyword_case="upper", strip_comments=True
        )
    return peers


if __name__ == "__main__":
    cost(statements())
    hostile()
