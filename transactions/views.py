"""Demo views, each with one pattern of queries; their docstrings are shown to visitors."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import Avg, Count, F, Sum
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext

from transactions.models import Account, Category, Transaction
from transactions.patterns import demo_view

ROWS = 25
"""Bookings of a view with a loop."""
WAIT_S = 1.2
"""Longer than a second, from which on the SQL log reports an idle transaction."""
SLOW_STEPS = 2_000_000
"""About half a second on SQLite and PostgreSQL, independent of the tables."""
BULK = "written by the bulk view"
"""Description of the bulk view's bookings, by which its next run finds and deletes them."""
BULK_ROWS = 200
SAVED = "written by the saving view"
SAVED_ROWS = 5
STREAM_PAGES = 5
STREAM_PAGE_ROWS = 100


@demo_view()
def fast(request: HttpRequest) -> Any:
    """Fast: one row by its primary key.

    A single query that uses an index. Most queries should look like this.
    """
    newest = Transaction.objects.order_by("-pk").first()
    return str(newest)


@demo_view()
def slow(request: HttpRequest) -> Any:
    """Slow: half a second of work in one statement.

    A recursive query that counts to two million. It reads no table and holds no lock,
    so it delays no other request.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < %s) "
            "SELECT COUNT(*) FROM step",
            [SLOW_STEPS],
        )
        (steps,) = cursor.fetchone()
    return {"steps": steps}


@demo_view()
def n_plus_one(request: HttpRequest) -> Any:
    """N+1: a loop with queries for each row.

    One query for 25 bookings, then three more for each of them: its account, that
    account's owner, its category. Each is fast, but there are 76 of them.
    """
    bookings = Transaction.objects.order_by("-timestamp")[:ROWS]
    return [_line(booking) for booking in bookings]


@demo_view()
def joined(request: HttpRequest) -> Any:
    """N+1 fixed: the same rows with select_related.

    The same loop over the same 25 bookings, but one query joins all related rows.
    """
    bookings = Transaction.objects.select_related("account__owner", "category").order_by("-timestamp")[:ROWS]
    return [_line(booking) for booking in bookings]


@demo_view()
def report(request: HttpRequest) -> Any:
    """Aggregate: the database computes sums.

    One query joins, groups and adds up all bookings by category and currency.
    It reads every row, so its duration grows with the table.
    """
    sums = (
        Transaction.objects.values(name=F("category__name"), currency=F("account__currency"))
        .annotate(bookings=Count("pk"), total=Sum("amount"), mean=Avg("amount"))
        .order_by("name", "currency")
    )
    return [{**row, "mean": round(row["mean"], 2)} for row in sums]


@demo_view()
def waiting(request: HttpRequest) -> Any:
    """Idle transaction: it holds a lock while it waits for something else.

    A transaction locks an account and then sends nothing for more than a second, as if it called
    another service. Everything that needs this lock has to wait until it ends.
    """
    with transaction.atomic():
        account = Account.objects.select_for_update().order_by("pk").first()
        time.sleep(WAIT_S)
    return str(account)


@demo_view(method="POST")
def bulk_write(request: HttpRequest) -> Any:
    """Bulk write: 200 rows in one transaction.

    In one atomic block it locks an account, deletes the rows of its last run,
    inserts 200 bookings with bulk_create and changes all of them with one UPDATE. The table does not grow.
    """
    with transaction.atomic():
        account = Account.objects.select_for_update().order_by("pk").first()
        category = Category.objects.order_by("pk").first()
        if account is None or category is None:
            raise Http404(gettext("There is no account: run manage.py generate_transactions first."))
        written = Transaction.objects.filter(account=account, description=BULK)
        deleted, _ = written.delete()
        Transaction.objects.bulk_create(_bookings(account, category, BULK_ROWS))
        updated = written.update(amount=F("amount") + 1)
    return {"deleted": deleted, "inserted": BULK_ROWS, "updated": updated}


@demo_view(method="POST")
def saving(request: HttpRequest) -> Any:
    """Saving: rows written one by one through their models.

    Five categories, each with a booking, are created, changed and deleted, a statement for each. The
    models' counters see these writes, unlike those of the bulk view.
    """
    account = Account.objects.order_by("pk").first()
    if account is None:
        raise Http404(gettext("There is no account: run manage.py generate_transactions first."))
    for _ in range(SAVED_ROWS):
        category = Category.objects.create(name=f"saved {secrets.token_hex(8)}")
        (booking,) = _bookings(account, category, 1)
        booking.save()
        booking.amount += 1
        booking.save(update_fields=["amount"])
        booking.description = SAVED
        booking.save(update_fields=["description"])
        category.name += " and renamed"
        category.save(update_fields=["name"])
        booking.delete()
        category.delete()
    return {"categories": SAVED_ROWS, "bookings": SAVED_ROWS}


@demo_view()
def failing(request: HttpRequest) -> Any:
    """Failing: a query that the database rejects.

    It names a table that does not exist. The view catches the error and answers 200; the
    record has the class of the error and its SQLSTATE.
    """
    try:
        _query_missing_table()
    except DatabaseError as exc:
        return {"error": type(exc).__name__, "message": str(exc)}
    raise AssertionError("The table should be missing.")


@demo_view()
def crashing(request: HttpRequest) -> Any:
    """Crashing: the same without catching the error.

    The exception reaches Django, which answers 500. The queries are recorded as well.
    """
    _query_missing_table()
    raise AssertionError("The table should be missing.")


@demo_view()
def streaming(request: HttpRequest) -> StreamingHttpResponse:
    """Streaming: queries after the view has returned.

    The body is generated while it is sent, with one query for each page. They run after the view
    and its middleware have returned, but belong to this request.
    """
    return StreamingHttpResponse(_csv(), content_type="text/plain; charset=utf-8")


@demo_view()
async def asynchronous(request: HttpRequest) -> Any:
    """Async: several queries awaited together.

    An async view gathers three ORM calls. Django runs them one after the other in its
    database thread; all three belong to this request.
    """
    count, largest, users = await asyncio.gather(
        Transaction.objects.acount(),
        Transaction.objects.order_by("-amount").afirst(),
        Transaction.objects.values("user").distinct().acount(),
    )
    return {"count": count, "largest": str(largest), "users": users}


def _line(booking: Transaction) -> dict[str, Any]:
    """Read three related rows of a booking: each is a query, unless select_related has joined it."""
    return {
        "amount": booking.amount,
        "currency": booking.account.currency,
        "owner": booking.account.owner.username,
        "category": booking.category.name,
    }


def _bookings(account: Account, category: Category, count: int) -> Iterator[Transaction]:
    for amount in range(1, count + 1):
        yield Transaction(
            user_id=account.owner_id,
            account=account,
            category=category,
            type=Transaction.Type.TRANSFER,
            amount=amount,
            timestamp=timezone.now(),
            description=BULK,
        )


def _query_missing_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT balance FROM transactions_missing WHERE id = %s", [1])


def _csv() -> Iterator[str]:
    yield "id,timestamp,type,amount\n"
    rows = Transaction.objects.order_by("-pk").values_list("pk", "timestamp", "type", "amount")
    last = 2**63 - 1  # above any primary key
    for _ in range(STREAM_PAGES):
        # By primary key instead of OFFSET, so that the fifth page costs as much as the first.
        for row in rows.filter(pk__lt=last)[:STREAM_PAGE_ROWS]:
            yield ",".join(map(str, row)) + "\n"
            last = row[0]
