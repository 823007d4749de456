"""Demo views, each showing one pattern of queries; its docstring is what visitors read."""

import asyncio
from collections.abc import Iterator
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import Avg, Count, F, Sum
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.utils import timezone

from transactions.models import Account, Category, Transaction
from transactions.patterns import shows

ROWS = 25
"""Bookings shown by a view that loops over some."""
SLOW_STEPS = 2_000_000
"""About half a second on SQLite and on PostgreSQL alike, whatever the tables hold."""
BULK = "written by the bulk view"
BULK_ROWS = 200
STREAM_PAGES, STREAM_ROWS = 5, 100


@shows()
def fast(request: HttpRequest) -> Any:
    """Fast: one row by its key.

    A single statement, answered from an index. This is what most queries should look like.
    """
    newest = Transaction.objects.order_by("-pk").first()
    return str(newest)


@shows()
def slow(request: HttpRequest) -> Any:
    """Slow: half a second of work in one statement.

    A recursive query that counts to two million. It reads no table and holds no lock,
    so nobody waits for it but you.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < %s) "
            "SELECT COUNT(*) FROM step",
            [SLOW_STEPS],
        )
        (steps,) = cursor.fetchone()
    return {"steps": steps}


@shows()
def n_plus_one(request: HttpRequest) -> Any:
    """N+1: a loop that asks again for each row.

    One statement for 25 bookings, then three more for each of them: its account, that
    account's owner, its category. All are fast, and together they are the problem.
    """
    bookings = Transaction.objects.order_by("-timestamp")[:ROWS]
    return [_line(booking) for booking in bookings]


@shows()
def joined(request: HttpRequest) -> Any:
    """N+1 repaired: the same rows by select_related.

    The same loop over the same 25 bookings, with everything it needs joined in: one statement.
    """
    bookings = Transaction.objects.select_related("account__owner", "category").order_by("-timestamp")[:ROWS]
    return [_line(booking) for booking in bookings]


@shows()
def report(request: HttpRequest) -> Any:
    """Aggregate: the database does the sums.

    One statement joins, groups and adds up all bookings by category and currency.
    It reads every row, so its time grows with the table.
    """
    sums = (
        Transaction.objects.values(name=F("category__name"), currency=F("account__currency"))
        .annotate(bookings=Count("pk"), total=Sum("amount"), mean=Avg("amount"))
        .order_by("name", "currency")
    )
    return [{**row, "mean": round(row["mean"], 2)} for row in sums]


@shows(method="POST")
def bulk_write(request: HttpRequest) -> Any:
    """Bulk write: 200 rows in one transaction.

    Inside one atomic block it locks an account, deletes what it wrote the last time,
    inserts 200 bookings by bulk_create and changes them all by one UPDATE. The table stays as it was.
    """
    with transaction.atomic():
        account = Account.objects.select_for_update().order_by("pk").first()
        category = Category.objects.order_by("pk").first()
        if account is None or category is None:
            raise Http404("There is no account: run manage.py generate_transactions first.")
        written = Transaction.objects.filter(account=account, description=BULK)
        deleted, _ = written.delete()
        Transaction.objects.bulk_create(_bulk_rows(account, category))
        updated = written.update(amount=F("amount") + 1)
    return {"deleted": deleted, "inserted": BULK_ROWS, "updated": updated}


@shows()
def failing(request: HttpRequest) -> Any:
    """Failing: a statement the database refuses.

    It names a table that does not exist. The view catches the error and answers 200; the
    record keeps the class of the error and its SQLSTATE.
    """
    try:
        _ask_for_a_missing_table()
    except DatabaseError as exc:
        return {"error": type(exc).__name__, "message": str(exc)}
    raise AssertionError("The table should be missing.")


@shows()
def crashing(request: HttpRequest) -> Any:
    """Crashing: the same, and nobody catches it.

    The error goes through to Django, which answers 500. Its statements are recorded all the same.
    """
    _ask_for_a_missing_table()
    raise AssertionError("The table should be missing.")


@shows()
def streaming(request: HttpRequest) -> StreamingHttpResponse:
    """Streaming: queries after the view has returned.

    The body is made page by page while it is sent, each page by a statement of its own. Those
    run when the view and its middleware are done, and still belong to this request.
    """
    return StreamingHttpResponse(_csv(), content_type="text/plain; charset=utf-8")


@shows()
async def asynchronous(request: HttpRequest) -> Any:
    """Async: several awaited queries at once.

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
    return {
        "amount": booking.amount,
        "currency": booking.account.currency,
        "owner": booking.account.owner.username,
        "category": booking.category.name,
    }


def _bulk_rows(account: Account, category: Category) -> Iterator[Transaction]:
    for amount in range(1, BULK_ROWS + 1):
        yield Transaction(
            user_id=account.owner_id,
            account=account,
            category=category,
            type=Transaction.Type.TRANSFER,
            amount=amount,
            timestamp=timezone.now(),
            description=BULK,
        )


def _ask_for_a_missing_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT balance FROM transactions_missing WHERE id = %s", [1])


def _csv() -> Iterator[str]:
    yield "id,timestamp,type,amount\n"
    rows = Transaction.objects.order_by("-pk").values_list("pk", "timestamp", "type", "amount")
    last = 2**63 - 1
    for _ in range(STREAM_PAGES):
        # By key and not by OFFSET: the fifth page costs what the first did.
        for row in rows.filter(pk__lt=last)[:STREAM_ROWS]:
            yield ",".join(map(str, row)) + "\n"
            last = row[0]
