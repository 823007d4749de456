"""What is passed as SQL becomes bounded text: no value in it, and no work that grows with it."""

import sys
import tracemalloc
from types import SimpleNamespace

import pytest
from django.utils.safestring import mark_safe
from psycopg import sql

from sqllogs.sql.normalize import scan
from sqllogs.sql.text import HASHED_CHARACTERS, TEXT_MAX_CHARACTERS, excerpt, text_of
from tests.sqllogs.sql.corpus import CANARY

MB = 1 << 20


class Template:
    """A template string of Python 3.14: its repr and its str have the values."""

    def __init__(self, strings, *values):
        self.strings = strings
        self.interpolations = tuple(SimpleNamespace(value=value, format_spec=form) for value, form in values)

    def __repr__(self):
        return f"Template(strings={self.strings!r}, interpolations={self.interpolations!r})"


@pytest.mark.parametrize(
    ("given", "normalized"),
    [
        (Template(("SELECT a FROM t WHERE b = ", ""), (CANARY, "")), "SELECT a FROM t WHERE b = ?"),
        (Template(("SELECT ", " FROM t"), (CANARY, "l")), "SELECT ? FROM t"),
        (Template(("SELECT a FROM ", ""), ("t", "i")), "SELECT a FROM t"),
        (Template(("SELECT ", ""), (Template(("a, ", ""), (CANARY, "s")), "q")), "SELECT a, ?"),
        (Template(("SELECT a FROM ", ""), (sql.Identifier("s", "t"), "i")), "SELECT a FROM s.t"),
        (Template(("SELECT ", ""), (sql.SQL("a, {}").format(CANARY), "q")), "SELECT a, ?"),
        (Template(("SELECT ", ""), (CANARY, "q")), "SELECT ?"),
        (Template(("SELECT ", ""), (sql.Literal(CANARY), "q")), "SELECT ?"),
        (sql.SQL("SELECT {}, {}").format(CANARY, sql.Identifier("A")), 'SELECT ?, "A"'),
        (sql.SQL("SELECT {}").format(sql.Literal([CANARY, CANARY])), "SELECT ?"),
        (sql.SQL("SELECT {}").format(sql.SQL(", ").join([sql.Literal(CANARY)] * 2)), "SELECT ?, ?"),
        (sql.SQL("SELECT {}").format(sql.Placeholder("name")), "SELECT ?"),
        (SimpleNamespace(password=CANARY), "?"),
        ({"sql": CANARY}, "?"),
        ([CANARY], "?"),
        (None, "?"),
        (b"SELECT 'c4n4ry'", "SELECT ?"),
        (mark_safe("SELECT 'c4n4ry'"), "SELECT ?"),
    ],
)
def test_object_that_is_passed_as_sql_shows_no_value(given, normalized):
    assert scan(text_of(given), "postgresql").sql == normalized


def test_objects_that_hold_each_other_come_to_an_end():
    template = Template(("SELECT ", ""), (None, "q"))
    template.interpolations[0].value = template
    assert (
        scan(text_of(template), "postgresql").sql
        == "SELECT SELECT SELECT SELECT SELECT SELECT SELECT SELECT ?"
    )


def whole(size):
    return "SELECT '" + "x" * size + "'"


BIG = {
    "text": whole,
    "bytes": lambda size: whole(size).encode(),
    "bytearray": lambda size: bytearray(whole(size).encode()),
    "memoryview": lambda size: memoryview(whole(size).encode()),
    "safe text": lambda size: mark_safe(whole(size)),
    "composed": lambda size: sql.Composed([sql.SQL("SELECT %s, ")] * (size // 10)),
    "literal": lambda size: sql.SQL("SELECT {}").format(sql.Literal("x" * size)),
    "sql": lambda size: sql.SQL(whole(size)),
    "template": lambda size: Template((whole(size), ""), ("x" * size, "")),
}


@pytest.mark.parametrize("kind", BIG)
def test_memory_and_calls_do_not_grow_with_the_statement(kind):
    small, large = BIG[kind](MB), BIG[kind](8 * MB)
    assert len(text_of(large)) <= TEXT_MAX_CHARACTERS
    assert _calls(large) == _calls(small)
    assert _peak_bytes(large) < MB


def _calls(given):
    counted = 0

    def count(frame, event, arg):
        nonlocal counted
        counted += 1

    profiler = sys.getprofile()
    sys.setprofile(count)
    try:
        excerpt(given)
    finally:
        sys.setprofile(profiler)
    return counted


def _peak_bytes(given):
    tracemalloc.start()
    try:
        excerpt(given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_long_statement_is_cut_with_its_length_and_a_hash_of_its_ends():
    one = excerpt(whole(5 * MB))
    assert (len(one.text), one.length) == (TEXT_MAX_CHARACTERS, len(whole(5 * MB)))
    middle = "x" * (2 * MB) + "y" + "x" * (3 * MB - 1)
    assert excerpt(f"SELECT '{middle}'").hash == one.hash  # the middle is not read
    assert excerpt(whole(5 * MB + 1)).hash != one.hash
    assert excerpt(whole(5 * MB - 1) + " ").hash != one.hash
    assert excerpt(whole(5 * MB).replace("S", "s", 1)).hash != one.hash
    assert excerpt(whole(HASHED_CHARACTERS)).hash is None


@pytest.mark.parametrize("quote", ["'", '"', "$$", "E'", "/* ", "x = c4n4", "q'["])
@pytest.mark.parametrize("vendor", ["postgresql", "sqlite", "mysql", "oracle", "microsoft", "other"])
def test_cut_within_a_literal_shows_nothing_of_it(quote, vendor):
    head = "SELECT a FROM t WHERE b = 'c' AND d = "
    sql = f"{head}{quote}{CANARY * (2 * TEXT_MAX_CHARACTERS // len(CANARY))}"
    if "=" not in quote:
        assert CANARY not in repr(scan(text_of(sql), vendor))
    assert len(scan(text_of(sql), vendor).sql) <= TEXT_MAX_CHARACTERS


def test_lone_surrogates_and_nul_are_replaced_in_what_is_kept_and_do_not_stop_the_hash():
    assert len(excerpt("\ud800\0" * TEXT_MAX_CHARACTERS).hash) == 16
    assert set(text_of("\ud800\0" * TEXT_MAX_CHARACTERS)) == {"\N{REPLACEMENT CHARACTER}"}
