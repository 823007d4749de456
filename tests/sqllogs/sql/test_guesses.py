"""A statement of which nobody knows what asked for it gets a guess from its text, and says so."""

import pytest

from sqllogs.sql.n_plus_one import SeenStatement
from sqllogs.sql.remedies import Remedies

USER, GROUP, PERMISSION, TYPE = "auth_user", "auth_group", "auth_permission", "django_content_type"
OF_USER = (
    "SELECT a FROM auth_group INNER JOIN auth_user_groups ON (auth_group.id = auth_user_groups.group_id) "
    "WHERE auth_user_groups.user_id = ?"
)


def guess(sql, table, operation="SELECT", seen=()):
    seen_statements = [SeenStatement((other,), 1, None, None) for other in seen]
    return Remedies().remedy(operation, sql, [table], seen_statements)


@pytest.mark.parametrize(
    ("sql", "table", "kind", "field", "code"),
    [
        (
            "SELECT a FROM auth_permission WHERE codename = ?", PERMISSION,
            "in_bulk", "auth.Permission.codename", "filter(codename__in=...)",
        ),
        (
            "SELECT a FROM auth_permission WHERE content_type_id = ?", PERMISSION,
            "prefetch_related", "contenttypes.ContentType.permission_set",
            'prefetch_related("permission_set")',
        ),
        (OF_USER, GROUP, "prefetch_related", "auth.User.groups", 'prefetch_related("groups")'),
        (
            "SELECT COUNT(*) FROM auth_permission WHERE content_type_id = ?", PERMISSION,
            "annotate", "contenttypes.ContentType.permission_set", None,
        ),
        ("SELECT COUNT(*) FROM auth_permission WHERE codename LIKE ?", PERMISSION, "annotate", None, None),
        ("SELECT a FROM django_session WHERE session_key = ?", "django_session", "in_bulk", None, None),
    ],
)  # fmt: skip
def test_condition_says_what_is_read_one_by_one(sql, table, kind, field, code):
    found = guess(sql, table)
    assert (found.kind, found.field, found.code) == (kind, field, code)
    assert found.is_guess
    assert found.advice.startswith("Probably: ")


def test_what_was_read_before_says_which_foreign_key_was_followed():
    sql = "SELECT a FROM django_content_type WHERE id = ?"
    several = guess(sql, TYPE)
    assert several.code is None
    assert "admin.LogEntry.content_type or auth.Permission.content_type" in several.advice
    one = guess(sql, TYPE, seen=["auth_permission"])
    assert one.code == 'select_related("content_type")'
    assert "on auth.Permission" in one.advice


def test_write_is_guessed_by_its_operation():
    found = guess("UPDATE auth_user SET a = ? WHERE id = ?", USER, "UPDATE")
    assert (found.kind, found.model, found.is_guess) == ("bulk_update", "auth.User", True)


@pytest.mark.parametrize(
    ("sql", "table", "operation"),
    [
        ("SELECT a FROM auth_group WHERE nothing = ?", GROUP, "SELECT"),  # no field of the model
        ("SELECT a FROM auth_group WHERE other.id = ?", GROUP, "SELECT"),  # of a table that has no model
        ("SELECT a FROM elsewhere WHERE id = ?", "elsewhere", "SELECT"),
        ("SAVEPOINT ?", USER, "SAVEPOINT"),
    ],
)
def test_nothing_is_guessed_of_what_is_not_known(sql, table, operation):
    assert guess(sql, table, operation) is None
