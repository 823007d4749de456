"""Rows come as CSV that no spreadsheet runs, and as NDJSON."""

import csv
import json

import pytest
from django.contrib.auth.models import Permission

from sqllogs.record import RecordJSON
from tests.sqllogs.factories import fill, put, put_statement, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
URL = "/sql-logs/"
PATHS = (
    "",
    "stats/",
    "stats/?group_by=view",
    "series/",
    "series/?group_by=view",
    "requests/",
    "repeats/",
    "events/",
)
PATHS += (f"traces/{'a' * 32}/",)
UNIT = {"trace_id": "a" * 32, "unit_id": "b" * 16}


def get(path, format, **parameters):
    answer = reader(f"{path}{format}"[:60]).get(URL + path, {"format": format, **parameters})
    assert answer.status_code == 200, answer.content
    return answer


def both(path):
    client = reader("both")
    url = f"{URL}{path}{'&' if '?' in path else '?'}to=2026-01-31T12:00:30Z&format="
    return [client.get(url + format) for format in ("json", "csv", "ndjson")]


@pytest.mark.parametrize("path", PATHS)
def test_tables_have_the_rows_of_the_json(path):
    put(*[UNIT | {"duration_ms": 2.5, "call_site": "a.py:1 f"}] * 6)
    put_statement(sql="SELECT x FROM t WHERE id = ?", tables="t,u")
    as_json, as_csv, as_ndjson = both(path)
    rows = as_json.json()["results"]
    assert [json.loads(line) for line in as_ndjson.content.splitlines()] == rows
    table = list(csv.DictReader(as_csv.content.decode().splitlines()))
    assert len(table) == len(rows)
    for line, row in zip(table, rows, strict=True):
        assert set(line) == set(row)
        assert line.get("sql", "") == (row.get("sql") or "")
    assert as_csv["Content-Type"] == "text/csv; charset=utf-8"
    assert not rows or as_ndjson["Content-Type"] == "application/x-ndjson"
    assert as_csv["Content-Disposition"] == 'attachment; filename="sql-logs.csv"'


@pytest.mark.parametrize("path", PATHS)
def test_empty_table_has_its_names(path):
    _, as_csv, as_ndjson = both(path)
    assert as_ndjson.content == b""
    (names,) = csv.reader(as_csv.content.decode().splitlines())
    if path == "":
        assert names == list(RecordJSON.__annotations__)
    else:
        assert len(names) > 5


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_is_no_formula(start):
    put({"view": f"{start}HYPERLINK(1)", "call_site": "-"})
    put_statement(sql=f"{start}cmd|' /C calc'!A0", tables=f"{start}t,u")
    (row,) = csv.DictReader(get("", "csv").content.decode().splitlines(keepends=True))
    assert row["view"] == f"'{start}HYPERLINK(1)"
    assert row["sql"] == f"'{start}cmd|' /C calc'!A0"
    assert row["tables"] == f"'{start}t, u"
    assert row["call_site"] == "'-"
    (group,) = csv.DictReader(
        get("stats/", "csv", group_by="view").content.decode().splitlines(keepends=True)
    )
    assert group["group"] == f"'{start}HYPERLINK(1)"


def test_numbers_truths_and_unknown_values_are_written_plainly():
    put({"duration_ms": 1.5, "rows": -1, "many": True})
    (row,) = csv.DictReader(get("", "csv").content.decode().splitlines())
    assert (row["duration_ms"], row["rows"], row["many"], row["error"]) == ("1.5", "-1", "true", "")


def test_next_page_is_in_a_header():
    fill(30)
    answer = get("", "csv", limit=10)
    assert answer["Link"].startswith("<http://testserver/sql-logs/?")
    assert "cursor=21" in answer["Link"]
    assert "Link" not in get("", "ndjson", limit=30)


@pytest.mark.parametrize("path", ["", "stats/", "events/"])
@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_error_is_json_all_the_same(path, format):
    answer = reader().get(URL + path, {"format": format, "colour": "red"})
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/json")
    assert answer.json()["error"]["field"] == "colour"


@pytest.mark.parametrize("path", ["health/", "1/", f"fingerprints/{'f' * 16}/"])
def test_what_is_no_table_is_json_only(path):
    fill(3)
    answer = reader().get(URL + path, {"format": "csv"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "format")


def test_text_is_left_out_for_those_who_may_not_read_it(django_user_model, client):
    put({})
    put_statement(sql="SELECT secret")
    user = django_user_model.objects.create_user("ann", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_sqllog"))
    client.force_login(user)
    for path in ("", "stats/"):
        for format in ("csv", "ndjson"):
            assert b"secret" not in client.get(URL + path, {"format": format}).content
