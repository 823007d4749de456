"""Which rows a statement counts or lists."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from sqllogs.conf import Conf
from sqllogs.sql.n_plus_one import Repetition, Rules, rows_read
from sqllogs.sql.normalize import StatementInfo

COUNT = "SELECT COUNT(*) AS __count FROM book WHERE book.a = ?"


@pytest.mark.parametrize(
    ("listed", "is_same"),
    [
        ("SELECT book.id FROM book WHERE book.a = ? ORDER BY book.a DESC", True),
        ("SELECT book.id FROM book WHERE book.a = ? ORDER BY book.a DESC LIMIT ?", False),  # a page
        (
            "SELECT book.id FROM book WHERE book.a = ? ORDER BY book.a ASC OFFSET ?",
            False,
        ),  # all but the first
        ("SELECT SUM(book.price) AS total FROM book WHERE book.a = ?", False),  # one row
        ("SELECT CAST(SUM(book.price) AS NUMERIC) AS total FROM book WHERE book.a = ?", False),
        ("SELECT book.id FROM book WHERE book.c = ?", False),  # other rows
        ("SELECT DISTINCT book.id FROM book WHERE book.a = ?", False),
        ("SELECT DISTINCT LOWER(book.c) AS c FROM book WHERE book.a = ?", False),
        ("SELECT ? AS x, book.id FROM book WHERE book.a = ?", False),  # its values are not those of the COUNT
        ("SELECT book.id FROM book WHERE book.a = ? FOR UPDATE", False),
        (
            (
                "SELECT book.id FROM book INNER JOIN author ON (book.author_id = author.id) "
                "LEFT OUTER JOIN country T3 ON (author.country_id = T3.id) WHERE book.a = ?"
            ),
            True,  # select_related()
        ),
        ("SELECT book.id FROM book INNER JOIN review ON (book.id = review.book_id) WHERE book.a = ?", False),
    ],
)
def test_list_has_the_rows_of_a_count(listed, is_same):
    count, rows = rows_read(COUNT), rows_read(listed)
    assert count.is_counted
    assert (rows is not None and count.keys[0] in rows.keys) is is_same


@pytest.mark.parametrize(
    ("count", "listed"),
    [
        (
            "SELECT COUNT(*) FROM (SELECT DISTINCT book.id AS a FROM book WHERE book.a = ?) subquery",
            "SELECT DISTINCT book.id FROM book WHERE book.a = ?",
        ),
        (
            "SELECT COUNT(*) AS __count FROM book_tags WHERE book_tags.book_id = ?",
            (
                "SELECT tag.id FROM tag INNER JOIN book_tags ON (tag.id = book_tags.tag_id) "
                "WHERE book_tags.book_id = ?"
            ),
        ),
    ],
)
def test_count_of_distinct_rows_and_of_a_relation_is_that_of_its_list(count, listed):
    assert set(rows_read(count).keys) & set(rows_read(listed).keys)


def test_count_of_a_column_is_not_that_of_the_rows():
    assert rows_read("SELECT COUNT(book.id) AS n FROM book") is not None
    assert rows_read("SELECT COUNT(book.read_at) AS n FROM book") is None  # some have none


def test_distinct_values_of_another_column_are_other_rows():
    count = "SELECT COUNT(*) FROM (SELECT DISTINCT book.author_id AS col1 FROM book) subquery"
    listed = "SELECT DISTINCT book.id, book.author_id FROM book"
    assert set(rows_read(count).keys).isdisjoint(rows_read(listed).keys)


@pytest.mark.parametrize(("interval_s", "is_suspect"), [(0.9, True), (1.05, False)])
def test_loop_that_waits_a_second_each_time_is_no_n_plus_one(interval_s, is_suspect):
    first = SimpleNamespace(time=datetime(2026, 1, 1, tzinfo=UTC), rows=1, sql_length=30)
    last = SimpleNamespace(time=first.time + timedelta(seconds=4 * interval_s), rows=1, sql_length=30)
    job = StatementInfo("f" * 16, "SELECT job.id FROM job WHERE job.id = ?", "SELECT", "job")
    repetition = Repetition(times=5, first=first, last=last)
    assert Rules(Conf()).is_suspect(job, "app.py:1 wait", repetition) is is_suspect
