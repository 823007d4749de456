"""Each demo view sends the queries that its docstring promises."""

from collections import Counter
from itertools import groupby

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from transactions import views
from transactions.models import Category, Transaction


@pytest.fixture
def queries_of(client, bookings):
    """Return a function that asks a view, reads its answer and returns its statements and answer."""

    def ask(name, method="get"):
        with CaptureQueriesContext(connection) as queries:
            response = getattr(client, method)(f"/transactions/{name}/")
        assert response.status_code == 200
        return [query["sql"] for query in queries], response

    return ask


def test_fast_is_one_indexed_lookup(queries_of):
    (sql,), _ = queries_of("fast")
    assert 'ORDER BY "transactions_transaction"."id" DESC LIMIT 1' in sql


def test_slow_is_one_recursive_statement_that_reads_no_table(queries_of, monkeypatch):
    monkeypatch.setattr(views, "SLOW_STEPS", 500)
    (sql,), response = queries_of("slow")
    assert "WITH RECURSIVE" in sql
    assert "transactions_" not in sql
    assert response.json()["result"] == {"steps": 500}


def test_waiting_sends_one_statement_and_keeps_its_transaction_open(queries_of, monkeypatch):
    waits = []
    monkeypatch.setattr(
        views.time, "sleep", lambda wait_s: waits.append((wait_s, connection.in_atomic_block))
    )
    (_, sql, _), _ = queries_of("waiting")
    assert 'FROM "transactions_account"' in sql
    assert waits == [(views.WAIT_S, True)]


def test_n_plus_one_asks_three_times_for_each_booking(queries_of):
    queries, response = queries_of("n-plus-one")
    assert len(response.json()["result"]) == 25
    assert len(queries) == 1 + 25 * 3


def test_joined_shows_the_same_in_one_statement(queries_of):
    (sql,), response = queries_of("joined")
    assert sql.count("INNER JOIN") == 3
    assert response.json()["result"] == queries_of("n-plus-one")[1].json()["result"]


def test_report_groups_all_bookings_in_one_statement(queries_of):
    (sql,), response = queries_of("report")
    assert "GROUP BY" in sql
    assert sum(row["bookings"] for row in response.json()["result"]) == 120


def test_bulk_write_is_one_atomic_block(queries_of):
    queries, _ = queries_of("bulk-write", "post")
    kinds = [sql.split()[0] for sql in queries]
    assert (kinds[0], kinds[-1]) == ("SAVEPOINT", "RELEASE")
    writes = [kind for kind in kinds if kind in {"INSERT", "UPDATE", "DELETE"}]
    # One INSERT or two: bulk_create keeps below the number of variables that the database takes.
    assert [kind for kind, _ in groupby(writes)] == ["DELETE", "INSERT", "UPDATE"]


def test_bulk_write_does_not_grow_the_table(queries_of):
    for _ in range(3):
        queries_of("bulk-write", "post")
    assert Transaction.objects.count() == 120 + views.BULK_ROWS


def test_bulk_write_is_refused_to_a_link_and_to_another_site(client, bookings):
    assert client.get("/transactions/bulk-write/").status_code == 405
    assert Client(enforce_csrf_checks=True).post("/transactions/bulk-write/").status_code == 403


def test_saving_writes_each_row_by_itself_and_leaves_none(queries_of):
    before = Category.objects.count()
    queries, _ = queries_of("saving", "post")
    verbs = Counter(query.split()[0] for query in queries)
    assert [verbs[verb] for verb in ("INSERT", "UPDATE", "DELETE")] == [10, 15, 10]
    assert Category.objects.count() == before
    assert Transaction.objects.count() == 120


def test_write_without_accounts_is_not_found(client, db):
    assert client.post("/transactions/bulk-write/").status_code == 404
    assert client.post("/transactions/saving/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_failing_answers_with_the_error(client):
    response = client.get("/transactions/failing/")
    assert response.status_code == 200
    assert response.json()["result"]["error"] == "OperationalError"
    assert "transactions_missing" in response.json()["result"]["message"]


@pytest.mark.django_db(transaction=True)
def test_crashing_is_a_server_error(client):
    client.raise_request_exception = False
    assert client.get("/transactions/crashing/").status_code == 500


def test_streaming_queries_while_its_body_is_read(queries_of):
    during_view, response = queries_of("streaming")
    with CaptureQueriesContext(connection) as queries:
        lines = response.getvalue().splitlines()
    assert during_view == []
    assert len(queries) == views.STREAM_PAGES
    assert len(lines) == 1 + 120


def test_streaming_gives_each_booking_once(queries_of, monkeypatch):
    monkeypatch.setattr(views, "STREAM_PAGE_ROWS", 20)
    lines = queries_of("streaming")[1].getvalue().decode().splitlines()[1:]
    newest = Transaction.objects.order_by("-pk").values_list("pk", flat=True)[:100]
    assert [int(line.split(",")[0]) for line in lines] == [*newest]


def test_asynchronous_sends_three_statements(queries_of):
    queries, response = queries_of("asynchronous")
    assert len(queries) == 3
    assert response.json()["result"]["count"] == 120


@pytest.mark.parametrize("name", ["fast", "n-plus-one", "joined", "report", "streaming", "asynchronous"])
def test_an_empty_table_is_no_error(client, db, name):
    response = client.get(f"/transactions/{name}/")
    assert response.status_code == 200
    assert response.getvalue()
