"""Create captured queries as an application puts them into the buffer: 20 per request, 150 statements."""

import time
from collections.abc import Iterator
from itertools import cycle
from typing import cast

from sqllogs.capture import Captured
from sqllogs.context import UnitOfWork

KINDS = 150
QUERIES_PER_UNIT = 20
CHARACTERS_MIN, CHARACTERS_MAX = 300, 1_500
CODES = [compile(f"def view_{number}(): pass", f"/app/views_{number}.py", "exec") for number in range(40)]
"""The same for all queries of a process, as in an application."""


def captured(count: int) -> Iterator[Captured]:
    """Return this many queries, each with a separate text object, as in Django."""
    texts = cycle([_statement(kind) for kind in range(KINDS)])
    codes = cycle(CODES)
    first_ns = time.time_ns()
    unit = _unit(0)
    for number in range(count):
        if number % QUERIES_PER_UNIT == 0:
            unit = _unit(number)
        # A plain tuple, as the wrapper makes it: a named one is slower to take apart.
        record = (
            first_ns + number * 1_000_000, 40_000 + number % 7_000, _copy(next(texts)), -1, None, "default",
            "postgresql", False, number % 3 == 0, number % 50, None, None, unit, None, next(codes), 2,
            None, None, None, None,
        )  # fmt: skip
        assert len(record) == len(Captured._fields)
        yield cast(Captured, record)


def _unit(number: int) -> UnitOfWork:
    unit = UnitOfWork("request", method="GET", request_id=f"request-{number}")
    unit.route, unit.view, unit.status = (
        f"shop/{number % 30}/<int:pk>/",
        f"shop.views.view_{number % 30}",
        200,
    )
    return unit


def _statement(kind: int) -> str:
    table = f'"shop_table_{kind}"'
    head = f'SELECT {table}."id"'
    tail = f' FROM {table} WHERE ({table}."id" = %s AND {table}."deleted_at" IS NULL) LIMIT 21'
    room = CHARACTERS_MIN + (CHARACTERS_MAX - CHARACTERS_MIN) * kind // KINDS - len(head) - len(tail)
    column = f', {table}."column_name"'
    return head + column * (room // len(column)) + tail


def _copy(text: str) -> str:
    """Return an equal string that has not been hashed yet."""
    return "".join((text[:1], text[1:]))
