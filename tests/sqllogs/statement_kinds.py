"""Kinds of statements that an application sends, on one table of its own.

Feeds tests/sqllogs/statement_matrix.py.
"""

import asyncio
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread

from asgiref.sync import sync_to_async
from django.db import DatabaseError, Error, connections, models, transaction
from django.db.backends.postgresql.psycopg_any import sql
from django.db.models import Sum
from django.utils.safestring import mark_safe

ALIAS = "application"


class Item(models.Model):
    name = models.CharField(max_length=50, unique=True)
    amount = models.IntegerField(default=0)

    class Meta:
        app_label = "application"
        db_table = "item"

    def __str__(self):
        return self.name


@dataclass(frozen=True, slots=True)
class Application:
    """An application with one table in a database that tells what it was sent."""

    driver: str
    """sqlite, psycopg or psycopg2"""
    sent: Callable[[], list[str]]
    """Return, once, what the database was sent since the last time."""

    @property
    def connection(self):
        return connections[ALIAS]

    @property
    def items(self):
        return Item.objects.using(ALIAS)

    def execute(self, statement, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)

    def forget_connection(self):
        """Close this thread's connection and let go of it: asgiref's thread lives on into the next test."""
        self.connection.close()
        del connections[ALIAS]

    def atomic(self):
        return transaction.atomic(using=ALIAS)


KINDS: dict[str, Callable[[Application], object]] = {}
POSTGRESQL = {"psycopg", "psycopg2"}
DRIVERS: dict[str, set[str]] = {"composed": POSTGRESQL}
"""The drivers that know a kind, where not all do."""


def kind(function: Callable[["Application"], object]):
    """Name a function's kind after it."""
    KINDS[function.__name__.replace("_", " ").strip()] = function
    return function


def kind_of(*drivers: str):
    """Likewise, for some of the drivers only."""

    def named(function: Callable[["Application"], object]):
        DRIVERS[function.__name__.replace("_", " ").strip()] = set(drivers)
        return kind(function)

    return named


ONE_LINERS: dict[str, Callable[[Application], object]] = {
    "get": lambda app: app.items.get(name="first"),
    "filter": lambda app: list(app.items.filter(amount__in=[1, 2, 3])),
    "count": lambda app: app.items.count(),
    "exists": lambda app: app.items.filter(amount=1).exists(),
    "aggregate": lambda app: app.items.aggregate(Sum("amount")),
    "insert": lambda app: app.items.create(name="created"),
    "bulk create": lambda app: bulk_create(app),
    "save": lambda app: app.items.get(name="first").save(),
    "update": lambda app: app.items.filter(name="first").update(amount=5),
    "delete": lambda app: app.items.filter(name="second").delete(),
    "get or create": lambda app: app.items.get_or_create(name="got"),
    "raw": lambda app: list(app.items.raw("SELECT * FROM item WHERE amount > %s", [1])),
    "cursor execute": lambda app: app.execute("SELECT name FROM item WHERE amount = %s", [5]),
    "iterator": lambda app: list(app.items.iterator()),
    "safe string": lambda app: app.execute(mark_safe("SELECT 'safe'")),
    "five megabytes": lambda app: app.execute("SELECT '" + "x" * 5_000_000 + "'"),
    "composed": lambda app: app.execute(sql.SQL("SELECT {}, %s").format(sql.Literal("composed")), [1]),
}
KINDS.update(ONE_LINERS)
INSERT = "INSERT INTO item (name, amount) VALUES (%s, 0)"


@kind
def select_for_update(app):
    with app.atomic():
        list(app.items.select_for_update())


@kind
def executemany_of_a_list(app):
    with app.connection.cursor() as cursor:
        cursor.executemany(INSERT, [[f"list {n}"] for n in range(3)])


@kind
def executemany_of_a_generator(app):
    with app.connection.cursor() as cursor:
        cursor.executemany(INSERT, ([f"generated {n}"] for n in range(3)))


@kind
def savepoints(app):
    with app.atomic():
        with app.atomic():
            app.items.create(name="kept")
        with suppress(LookupError), app.atomic():
            app.items.create(name="not kept")
            raise LookupError


@kind
def atomic_rollback(app):
    with suppress(LookupError), app.atomic():
        app.items.create(name="rolled back")
        raise LookupError


@kind
def without_autocommit(app):
    app.connection.set_autocommit(False)
    app.execute("SELECT 'without autocommit'")
    app.connection.commit()
    app.connection.set_autocommit(True)


@kind
def ddl(app):
    field = models.IntegerField(null=True, db_index=True)
    field.set_attributes_from_name("added")
    field.model = Item
    with app.connection.schema_editor() as editor:
        editor.add_field(Item, field)


@kind
def failing(app):
    with suppress(DatabaseError):
        app.execute("SELECT missing FROM item")


def bulk_create(app):
    # Since Django 6.1 it opens no transaction of its own for a single batch.
    with app.atomic():
        app.items.bulk_create([Item(name=f"bulk {n}") for n in range(3)])


@kind
def duplicate(app):
    with suppress(DatabaseError):
        app.items.create(name="first")


@kind
def in_a_broken_transaction(app):
    with suppress(DatabaseError), app.atomic():
        with suppress(DatabaseError):
            app.items.create(name="first")
        app.items.count()


@kind
def statement_of_bytes(app):
    with suppress(TypeError):
        app.execute(b"SELECT 'bytes'")


@kind
def nul_in_a_parameter(app):
    with suppress(Error, ValueError):
        app.execute("SELECT length(%s)", ["n\0ul"])


@kind
def nul_in_the_text(app):
    with suppress(Error, ValueError):
        app.execute("SELECT 'n\0ul'")


@kind
def asynchronous(app):
    async def ask():
        await app.items.aget(name="first")
        await sync_to_async(app.forget_connection)()

    asyncio.run(ask())


@kind
def thread(app):
    def ask():
        app.items.get(name="first")
        app.forget_connection()

    asking = Thread(target=ask)
    asking.start()
    asking.join()


@kind
def iterator_that_is_left(app):
    """Of a loop that ends before its rows do."""
    with app.atomic():
        rows = app.items.iterator(chunk_size=1)
        next(rows)
        rows.close()


@kind
def empty_transaction(app):
    with app.atomic():
        pass


@kind
def commit_in_autocommit(app):
    app.execute("SELECT 'committed by itself'")
    app.connection.commit()
    app.connection.rollback()


@kind
def commit_that_fails(app):
    with suppress(DatabaseError), app.atomic():
        app.execute("INSERT INTO part (item_id) VALUES (-1)")


@kind
def chunked_cursor(app):
    with app.atomic(), app.connection.chunked_cursor() as cursor:
        cursor.execute("SELECT name FROM item ORDER BY name")
        cursor.fetchone()
        if app.driver in POSTGRESQL:
            cursor.scroll(1)
        list(cursor)


@kind_of("psycopg", "psycopg2")
def callproc(app):
    with app.connection.cursor() as cursor:
        cursor.callproc("doubled", [21])
        assert cursor.fetchall() == [(42,)]
        cursor.callproc("total", (1, 2))
        cursor.callproc("now")


@kind_of("psycopg")
def copy_out(app):
    with app.connection.cursor() as cursor, cursor.copy("COPY item TO STDOUT") as rows:
        list(rows)


@kind_of("psycopg")
def copy_in(app):
    with app.connection.cursor() as cursor, cursor.copy("COPY item (name, amount) FROM STDIN") as rows:
        rows.write_row(("copied", 1))


@kind_of("psycopg")
def copy_that_fails(app):
    cursor = app.connection.cursor()
    with suppress(Exception), cursor.copy("COPY item (name) FROM STDIN") as rows:
        rows.write_row(("first", 1))


@kind_of("psycopg")
def stream(app):
    with app.connection.cursor() as cursor:
        assert len(list(cursor.stream("SELECT streamed FROM generate_series(1, %s) AS streamed", [3]))) == 3


@kind_of("psycopg2")
def copy_expert(app):
    with app.connection.cursor() as cursor:
        cursor.copy_expert("COPY item TO STDOUT", io.StringIO())


@kind_of("psycopg2")
def copy_from_and_to(app):
    with app.connection.cursor() as cursor:
        cursor.copy_from(io.StringIO("copied\t1\n"), "item", columns=("name", "amount"))
        cursor.copy_to(io.StringIO(), "item")


@kind
def driver(app):
    app.connection.ensure_connection()
    cursor = app.connection.connection.cursor()
    cursor.execute("SELECT past.wrappers FROM (SELECT 1 AS wrappers) AS past")
    cursor.close()


@kind_of("psycopg", "psycopg2")
def health_check(app):
    assert app.connection.is_usable()


@kind
def reconnect(app):
    app.connection.close()
    app.execute("SELECT 'reconnected'")
