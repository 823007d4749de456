"""What is repeated on purpose is marked, stays a part of its unit of work, and costs others nothing."""

import asyncio

import pytest
from django.db import connections

from sqllogs import muted, repeats_allowed, unit_of_work
from sqllogs.context import current
from sqllogs.testing import assert_no_repeats
from tests.sqllogs.recording import recording, stored


@repeats_allowed()
def sync_mark():
    return current.get().repeats_allowed


@repeats_allowed()
async def async_mark():
    await asyncio.sleep(0)
    return current.get().repeats_allowed


@repeats_allowed()
def nested(depth):
    return current.get().repeats_allowed and (depth == 0 or nested(depth - 1))


def test_block_and_function_are_marked_and_what_is_around_them_is_not():
    with unit_of_work("task", "t") as unit:
        assert not unit.repeats_allowed
        with repeats_allowed():
            assert current.get().repeats_allowed
        assert sync_mark()
        assert asyncio.run(async_mark())
        assert nested(3)
        assert current.get() is unit


def test_marked_unit_tells_what_becomes_known_later_and_passes_on_what_it_is_told():
    with unit_of_work("task", "t") as unit:
        with repeats_allowed():
            marked = current.get()
        unit.status, unit.route = 200, "a/"
        assert (marked.status, marked.route_and_view(), marked.trace_id) == (200, ("a/", "t"), unit.trace_id)
        marked.muted = True
        assert unit.muted


def test_request_that_is_muted_within_is_muted_as_a_whole():
    with unit_of_work("request", "t") as unit:
        with repeats_allowed(), muted():
            pass
        assert unit.muted


def test_block_outside_a_unit_of_work_becomes_one():
    with repeats_allowed():
        assert (current.get().kind, current.get().repeats_allowed) == ("thread", True)
    assert current.get() is None


def test_metrics_see_one_unit():
    with unit_of_work("task", "t") as unit, repeats_allowed(), repeats_allowed():
        assert current.get().whole is unit.whole is unit


@pytest.mark.django_db
def test_marked_queries_fail_no_test():
    with assert_no_repeats(), repeats_allowed(), connections["default"].cursor() as cursor:
        for _ in range(9):
            cursor.execute("SELECT 1")


def test_exception_goes_through_and_the_mark_ends():
    with unit_of_work("task", "t") as unit:
        with pytest.raises(KeyError), repeats_allowed():
            raise KeyError
        assert current.get() is unit


@pytest.mark.django_db
def test_records_carry_the_mark_and_belong_to_one_unit(ring_alias):
    with recording(ring_alias) as recorder:
        with unit_of_work("task", "t"), connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
            with repeats_allowed():
                cursor.execute("SELECT 2")
        before, marked = stored(recorder, ring_alias)
    assert (before.repeats_allowed, marked.repeats_allowed) == (False, True)
    assert (before.trace_id, before.span_id, before.view) == (marked.trace_id, marked.span_id, "t")
