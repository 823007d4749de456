"""What is left of a statement that is too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqllogs.sql.text import cut, truncate_sql

COLUMNS = "t.a, COALESCE(t.b, t.c), (SELECT u.x FROM u) AS d, t.from_date"


@pytest.mark.parametrize(
    ("sql", "width", "shown"),
    [
        ("SELECT t.a FROM t", 20, "SELECT t.a FROM t"),
        (f"SELECT {COLUMNS} FROM t WHERE t.a = ?", 40, "SELECT t.a, … FROM t WHERE t.a = ?"),
        (f"SELECT DISTINCT {COLUMNS} FROM t", 40, "SELECT DISTINCT t.a, … FROM t"),
        (f"SELECT {COLUMNS} FROM t WHERE t.a = ?", 25, "SELECT … FROM t … = ?"),
        ("INSERT INTO t(a, b, c) VALUES (?, ?, ?)", 38, "INSERT INTO t(a, …) VALUES (?, ?, ?)"),
        (f"SELECT {COLUMNS} FROM t WHERE t.a = ?", 30, "SELECT … FROM t WHERE t.a = ?"),
        ("UPDATE t SET abc = ?, def = ? WHERE id = ?", 20, "UPDATE t SET … = ?"),
    ],
)
def test_columns_give_way_first_and_then_the_middle(sql, width, shown):
    assert truncate_sql(sql, width) == shown


@given(st.text(), st.integers(0, 50))
def test_no_text_is_wider_than_asked_for(text, width):
    assert len(truncate_sql(text, width)) <= width
    assert len(cut(text, width)) <= width
