"""`sqllogs.testing`: what is counted, what fails, and what the failure says."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from sqllogs import muted, repeats_allowed, unit_of_work
from sqllogs.models import SQLLog
from sqllogs.testing import assert_max_queries, assert_no_repeats, record_queries
from sqllogs.testing.queries import GROUPS_SHOWN
from tests.sqllogs.recording import forget_connection
from transactions.models import Account, Category, Transaction

DELETE = "DELETE FROM auth_group WHERE id = %s"
here = "tests/sqllogs/testing/test_testing.py"


@pytest.fixture
def accounts(db):
    """Four accounts, of an owner each."""
    owners = [User.objects.create(username=f"owner {number}") for number in range(4)]
    return [Account.objects.create(owner=owner, iban=f"IBAN {owner.pk}") for owner in owners]


def owners_one_by_one():
    return [account.owner.username for account in Account.objects.all()]


def accounts_one_by_one():
    return [list(user.accounts.all()) for user in User.objects.all()]


def message(log, assertion="assert_no_repeats", *arguments):
    with pytest.raises(AssertionError) as failure:
        getattr(log, assertion)(*arguments)
    return str(failure.value)


def test_query_has_the_fields_of_a_stored_record(db):
    with record_queries() as log:
        list(Category.objects.filter(name="secret"))
    (query,) = log.queries
    assert (query.operation, query.tables, query.alias) == ("SELECT", ("transactions_category",), "default")
    assert query.call_site.startswith(f"{here}:")
    assert query.call_site.endswith(" test_query_has_the_fields_of_a_stored_record")
    assert query.sql.endswith("WHERE transactions_category.name = ?")
    assert query.error is None
    assert query.duration_ms > 0


def test_package_that_is_named_as_application_has_the_call_site(db, settings):
    """As the application's own packages are, where they are installed."""
    folder = "/srv/venv/site-packages/shop"
    names = {"User": User}
    exec(compile("def ask(): return User.objects.exists()", f"{folder}/models.py", "exec"), names)
    settings.SQLLOGS = settings.SQLLOGS | {"APPLICATION": [folder]}
    with record_queries() as log:
        names["ask"]()
    assert [query.call_site for query in log.queries] == ["shop/models.py:1 ask"]


def test_queries_before_and_after_the_block_are_not_recorded(db):
    Category.objects.count()
    with record_queries() as log:
        Category.objects.count()
    Category.objects.count()
    assert len(log) == 1


def test_wrappers_that_the_host_saves_and_puts_back_count_once(db):
    wrappers = connection.execute_wrappers
    with record_queries():
        saved = wrappers[:]
        wrappers.clear()
    try:
        with record_queries() as log:
            wrappers += saved
            User.objects.count()
    finally:
        wrappers[:] = saved
    assert len(log) == 1


def test_nested_blocks_count_separately(db):
    with record_queries() as outer:
        Category.objects.count()
        with record_queries() as inner:
            Category.objects.count()
    assert (len(outer), len(inner)) == (2, 1)


def test_failing_query_counts(db):
    with record_queries() as log, pytest.raises(Exception, match="missing"), transaction.atomic():
        connection.cursor().execute("SELECT missing")
    assert [query.error for query in log.queries] == ["OperationalError"]


def test_savepoints_and_transactions_are_not_counted(db):
    with record_queries() as log, transaction.atomic():
        Category.objects.count()
    assert [query.operation for query in log.queries] == ["SELECT"]


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_queries_of_the_sql_log_itself_are_not_counted(ring_alias):
    with record_queries() as log:
        SQLLog.objects.count()
    assert len(log) == 0


def test_muted_queries_are_not_counted(db):
    with record_queries() as log, muted():
        Category.objects.count()
    assert len(log) == 0


@pytest.mark.django_db(transaction=True)
def test_queries_of_threads_are_counted_even_if_they_outlive_a_test():
    lengths = []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(2):
            with record_queries() as log:
                thread.submit(Category.objects.count).result()
            lengths.append(len(log))
        thread.submit(forget_connection).result()
    assert lengths == [1, 1]


@pytest.mark.django_db(transaction=True)
def test_queries_of_async_code_are_counted():
    async def ask():
        await Category.objects.acount()
        await asyncio.gather(*(Category.objects.acount() for _ in range(2)))
        await sync_to_async(forget_connection)()

    with record_queries() as log:
        asyncio.run(ask())
    assert len(log) == 3


class TestsInATransaction(TestCase):
    def test_counts(self):
        with transaction.atomic(), assert_max_queries(1) as log:
            Category.objects.create(name="a")
        assert len(log) == 1


class TestsWithTheFixture(TestCase):
    @pytest.fixture(autouse=True)
    def _keep(self, sql_log, db):
        Category.objects.count()
        self.sql_log = sql_log

    def test_counts_what_the_test_sends(self):
        Category.objects.count()
        assert len(self.sql_log) == 1


class TestsWithoutATransaction(TransactionTestCase):
    def test_counts(self):
        with assert_max_queries(1) as log, transaction.atomic():
            Category.objects.create(name="a")
        assert len(log) == 1


def test_fixture_begins_with_the_body_of_the_test(sql_log, accounts):
    assert len(sql_log) == 0
    Account.objects.count()
    sql_log.assert_max_queries(1)
    sql_log.clear()
    sql_log.assert_max_queries(0)


def test_as_many_queries_as_allowed_pass_and_one_more_fails(accounts):
    with assert_max_queries(5):
        owners_one_by_one()
    with (
        pytest.raises(AssertionError, match=r"5 queries, but at most 4 are allowed\."),
        assert_max_queries(4),
    ):
        owners_one_by_one()


def test_exception_of_the_block_is_not_replaced(accounts):
    def fail():
        owners_one_by_one()
        raise LookupError

    with pytest.raises(LookupError), assert_max_queries(0), assert_no_repeats():
        fail()


def test_failure_lists_statements_by_how_often_with_line_and_remedy(sql_log, accounts):
    owners_one_by_one()
    lines = message(sql_log, "assert_max_queries", 1).splitlines()
    assert lines[2].startswith("4 x SELECT auth_user.id, … FROM auth_user WHERE auth_user.id = ? LIMIT ?")
    assert lines[3].startswith(f"    from {here}:")
    assert " owners_one_by_one" in lines[3]
    assert 'select_related("owner") on transactions.Account.' in lines[4]  # Django 6.1 has one more remedy
    assert lines[5].startswith("1 x SELECT transactions_account.id")
    assert len(lines) == 7


def test_long_list_is_cut_and_says_so(sql_log, db):
    for number in range(GROUPS_SHOWN + 2):
        connection.cursor().execute(f"SELECT 1 AS column{number}")
    assert message(sql_log, "assert_max_queries", 1).endswith("... and 2 more of 2 other statements.")


@pytest.mark.parametrize(
    ("query", "advice"),
    [
        (owners_one_by_one, 'select_related("owner")'),
        (lambda: [list(user.groups.all()) for user in User.objects.all()], 'prefetch_related("groups")'),
        (lambda: [list(Group(pk=n).user_set.all()) for n in range(3)], 'prefetch_related("user_set")'),
        (accounts_one_by_one, 'prefetch_related("accounts")'),
        (lambda: [User.objects.get(username=f"owner {n}") for n in range(3)], "filter(username__in=...)"),
        (lambda: [Category.objects.create(name=str(n)) for n in range(3)], "bulk_create()"),
        (lambda: [User.objects.filter(pk=n).update(last_name="x") for n in range(3)], "bulk_update()"),
        (
            lambda: [Transaction.objects.filter(pk=n).delete() for n in range(3)],
            "filter(pk__in=...).delete()",
        ),
        (lambda: [User.objects.count() for _ in range(3)], "run it once, before the loop"),
        (
            lambda: [User.objects.filter(pk__gt=n).count() for n in range(3)],
            "annotate()",
        ),
    ],
)
def test_repeats_fail_with_the_remedy(sql_log, accounts, query, advice):
    query()
    text = message(sql_log)
    assert text.startswith("N+1: A statement is sent repeatedly from the same line.")
    assert advice in text


def test_remedy_removes_the_repeat(sql_log, accounts):
    [account.owner.username for account in Account.objects.select_related("owner")]
    [list(user.accounts.all()) for user in User.objects.prefetch_related("accounts")]
    sql_log.assert_no_repeats()


def test_repeats_are_counted_from_a_given_number(sql_log, accounts):
    owners_one_by_one()
    sql_log.assert_no_repeats(5)
    message(sql_log, "assert_no_repeats", 4)


def test_other_line_and_other_unit_of_work_are_no_repeat(sql_log, db):
    def ask():
        return Category.objects.count()

    with assert_no_repeats(2):
        Category.objects.count()
        Category.objects.count()
    for name in ("one", "other"):
        with unit_of_work("task", name):
            ask()
    sql_log.assert_no_repeats(2)


def test_repeat_says_in_which_unit_it_is(sql_log, db):
    with unit_of_work("task", "nightly"):
        for _ in range(3):
            Category.objects.count()
    assert ", in task nightly (default, " in message(sql_log)


@pytest.mark.parametrize(
    "meant",
    [
        lambda: [list(User.objects.filter(pk__in=[n, n + 1])) for n in range(3)],
        lambda: [list(User.objects.order_by("pk")[n : n + 2]) for n in range(3)],
        lambda: [User.objects.bulk_create([User(username=f"{n} {m}") for m in range(3)]) for n in range(3)],
        lambda: [
            connection.cursor().executemany("DELETE FROM auth_group WHERE id = %s", [[1]]) for _ in "abc"
        ],
    ],
)
def test_intended_loop_is_no_repeat(sql_log, db, meant):
    meant()
    sql_log.assert_no_repeats()


def test_repeats_can_be_allowed(sql_log, accounts):
    with repeats_allowed():
        owners_one_by_one()
    sql_log.assert_no_repeats()
