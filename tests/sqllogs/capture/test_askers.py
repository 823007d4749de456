"""What asks for a repeated statement is named once, in names only, and never at the cost of the query."""

import gc
import weakref
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from psycopg.types.numeric import Int4, Int8

from sqllogs import guard
from sqllogs.capture import Captured, askers
from sqllogs.capture.wrapper import execute_wrapper, install, uninstall
from sqllogs.context import UNCOUNTED, UnitOfWork, current, repeats_allowed, unit_of_work

pytestmark = pytest.mark.django_db
NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus")


@pytest.fixture
def kept():
    """The queries of a test, captured as in production."""
    found = []
    wrapper = execute_wrapper(lambda query: found.append(Captured(*query)), call_site=True)
    connection.ensure_connection()
    install(wrapper, connection)
    yield found
    uninstall(wrapper, connection)


def asked(kept):
    return [(number, query.asked_by) for number, query in enumerate(kept, 1) if query.asked_by is not None]


def test_fifth_repetition_is_named_once_and_others_are_not(kept):
    with unit_of_work("task"):
        for name in NAMES:
            User.objects.filter(username=name).first()
    assert asked(kept) == [(5, "queryset auth.User first where=username order=pk slice one")]


def test_four_repetitions_are_not_looked_at(kept, monkeypatch):
    monkeypatch.setattr(askers, "_walk", None)
    with unit_of_work("task"):
        for name in NAMES[:4]:
            User.objects.filter(username=name).exists()
    assert asked(kept) == []
    assert not guard.faults["askers"]


def test_equal_values_are_said_and_taken_back_when_they_differ(kept):
    with unit_of_work("task"):
        for name in ("ada",) * 7 + ("bob",) * 2:
            User.objects.filter(username=name).exists()
    assert asked(kept) == [
        (5, "queryset auth.User exists where=username same"),
        (8, "queryset auth.User exists where=username"),
    ]


def test_no_value_and_no_object_is_kept(kept):
    group = Group.objects.create(name="secret")
    alive = weakref.ref(group)
    with unit_of_work("task"):
        unit = current.get()
        for _name in NAMES:
            list(group.permissions.filter(codename="secret"))
    assert "secret" not in repr([query.asked_by for query in kept])
    assert asked(kept)[0][1].startswith(
        "queryset auth.Permission all of=auth.Group where=auth.Group_permissions"
    )
    del group
    gc.collect()
    assert alive() is None
    assert unit.repeats is UNCOUNTED  # nothing is kept beyond the end


def test_counted_statements_of_a_unit_are_bounded(kept, monkeypatch):
    monkeypatch.setattr("sqllogs.capture.wrapper.COUNTED_MAX", 3)
    with unit_of_work("task"):
        for columns in range(1, 8):
            list(User.objects.values_list(*["pk"] * columns))
        assert len(current.get().repeats) == 3
    assert len(kept) == 7


def test_loop_that_is_allowed_and_queries_without_a_unit_are_not_counted(kept):
    with repeats_allowed():
        for name in NAMES:
            User.objects.filter(username=name).exists()
    for name in NAMES:
        User.objects.filter(username=name).exists()
    assert asked(kept) == []


def test_fault_of_the_walk_is_counted_and_the_query_is_captured(kept, monkeypatch):
    def fail(*_):
        raise ValueError("broken")

    monkeypatch.setattr(askers, "_walk", fail)
    before = guard.faults["askers"]
    with unit_of_work("task"):
        for name in NAMES:
            User.objects.filter(username=name).exists()
    assert guard.faults["askers"] == before + 1
    assert len(kept) == len(NAMES)


def test_raw_statement_has_no_asker(kept):
    with unit_of_work("task"), connection.cursor() as cursor:
        for number in range(6):
            cursor.execute("SELECT %s", [number])
    assert asked(kept) == [(5, "")]


class Foreign:
    """Raise if any method is called that compares, as an application's own class may."""

    def _fail(self, *_):
        raise AssertionError

    __hash__ = __eq__ = __len__ = __bool__ = __iter__ = __str__ = _fail


class OwnText(str):
    __hash__ = __eq__ = __len__ = Foreign._fail


class OwnZone(tzinfo):
    utcoffset = dst = tzname = Foreign._fail


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "values",
    [
        Foreign(),
        {"id": 1},
        (Foreign(),),
        (OwnText("a"),),
        (NOW.replace(tzinfo=OwnZone()),),
        ("a" * 10_000,),
        (b"a" * 10_000,),
        (1,) * 10_000,
        ([1, 2],),
        (Decimal("sNaN"),),
    ],
)
def test_what_is_long_or_of_the_application_is_not_compared(values):
    assert askers.hash_values(values) is None


@pytest.mark.parametrize(
    "value",
    [
        1,
        "a",
        b"a",
        None,
        True,
        2.5,
        Decimal("2.5"),
        NOW,
        NOW.date(),
        NOW.time(),
        UUID(int=1),
        Int4(1),
        Int8(1),
    ],
)
def test_values_of_drivers_and_of_python_are_compared(value):
    found = askers.hash_values((value,))
    assert found is not None
    assert found == askers.hash_values([value])
    assert found != askers.hash_values(("another",))
    assert hash((value,)) != found  # without the key of this process it cannot be computed


def test_text_that_is_cut_or_hides_values_is_not_compared(kept):
    statement = "SELECT '" + "a" * 100_000 + "', %s"
    with unit_of_work("task"), connection.cursor() as cursor:
        for _ in range(6):
            cursor.execute(statement, [1])
    assert [query.values for query in kept] == [None] * 6


def test_values_are_hashed_until_it_is_known_that_they_differ(kept):
    with unit_of_work("task"):
        for name in ("ada", "bob", "bob", "cyd", "dan", "eve", "fay"):
            User.objects.filter(username=name).exists()
        User.objects.filter(username="other").count()
    assert [query.values is not None for query in kept] == [True] * 5 + [False] * 2 + [True]


def test_nothing_is_compared_if_that_is_disabled():
    found = []
    wrapper = execute_wrapper(
        lambda query: found.append(Captured(*query)), call_site=True, compare_values=False
    )
    connection.ensure_connection()
    install(wrapper, connection)
    try:
        with unit_of_work("task"):
            for _ in range(6):
                User.objects.filter(username="ada").exists()
    finally:
        uninstall(wrapper, connection)
    assert [query.values for query in found] == [None] * 6
    assert asked(found) == [(5, "queryset auth.User exists where=username")]


def test_unit_of_work_that_has_ended_counts_nothing():
    unit = UnitOfWork("request")
    unit.close()
    assert unit.repeats is UNCOUNTED
    assert Permission.objects.exists()
