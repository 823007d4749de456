"""Databases are called by the names of OpenTelemetry's conventions."""

import pytest

from sqllogs.conf import Conf
from sqllogs.otel import Attributes
from sqllogs.pipeline.resolver import Resolver
from tests.sqllogs.factories import changed
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.rings import database

POSTGRESQL = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "db.example", "PORT": 5433}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/shop/db.sqlite3"}


def attributes(**changes):
    batch = Resolver(Conf()).batch([captured(**changes)])
    [record] = batch.records
    return Attributes().from_record(record, batch.statements[record.fingerprint])


@pytest.mark.parametrize(
    ("settings_dict", "named"),
    [
        (POSTGRESQL, {"db.namespace": "shop", "server.address": "db.example", "server.port": 5433}),
        (SQLITE, {"db.namespace": "db.sqlite3"}),  # the file alone, its folder is nobody's business
    ],
)
def test_database_is_named_as_in_the_settings(settings_dict, named):
    with database("shop", settings_dict):
        found = attributes(alias="shop")
    assert {name: found[name] for name in found if name.startswith(("db.namespace", "server."))} == named


@pytest.mark.parametrize(
    ("vendor", "system"),
    [("sqlite", "sqlite"), ("oracle", "oracle.db"), ("microsoft", "microsoft.sql_server")],
)
def test_system_has_the_name_of_the_conventions(vendor, system):
    assert attributes(vendor=vendor)["db.system.name"] == system


def test_alias_that_is_gone_costs_only_its_name():
    assert "db.namespace" not in attributes(alias="gone")


def test_what_is_not_known_is_not_there():
    found = attributes(sql="")
    assert "db.operation.name" not in found
    assert None not in found.values()


@pytest.mark.parametrize(
    ("call_site", "code"),
    [
        ("shop/views.py:12 Cart.total", ("shop/views.py", 12, "Cart.total")),
        ("my shop/views.py:12 f", ("my shop/views.py", 12, "f")),
        ("a:1/views.py:12 <listcomp>", ("a:1/views.py", 12, "<listcomp>")),
        ("no line", (None, None, None)),
    ],
)
def test_line_of_code_is_found_in_any_path(call_site, code):
    batch = Resolver(Conf()).batch([captured()])
    [record] = batch.records
    found = Attributes().from_record(
        changed(record, call_site=call_site), batch.statements[record.fingerprint]
    )
    names = ("code.file.path", "code.line.number", "code.function.name")
    assert tuple(found.get(name) for name in names) == code


@pytest.mark.parametrize(
    ("sql", "named"), [("COMMIT", "COMMIT"), ("ROLLBACK", "ROLLBACK"), ("SELECT a", None)]
)
def test_operation_is_named_only_where_it_is_not_parsed(sql, named):
    found = attributes(sql=sql)
    assert found.get("db.operation.name") == named
    assert found["db.query.summary"] == sql.split()[0]


@pytest.mark.parametrize(("many", "size"), [(False, None), (True, None), (1, None), (3, 3)])
def test_batch_size_is_that_of_an_executemany_with_several_sets(many, size):
    batch = Resolver(Conf()).batch([captured(), captured(many=many)])
    assert [record.many for record in batch.records] == [False, many is not False]
    assert batch.batch_sizes.get(1) == size
    found = Attributes().from_record(
        batch.records[1], batch.statements[batch.records[1].fingerprint], batch.batch_sizes.get(1)
    )
    assert found.get("db.operation.batch.size") == size


def test_rows_of_a_select_are_returned_ones():
    assert attributes(rowcount=3)["db.response.returned_rows"] == 3
    assert "db.response.returned_rows" not in attributes(sql="DELETE FROM a", rowcount=3)
