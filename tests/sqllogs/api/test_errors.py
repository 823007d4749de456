"""Every error of the API has one shape; only the database can cause a 5xx, never a request."""

import random
import re

import pytest
from django.test import Client, RequestFactory

from sqllogs import guard, urls
from sqllogs.api import responses, tokens
from sqllogs.api.views import RecordList
from sqllogs.read.pagination import PARAMETERS
from sqllogs.read.parameters import SQLLogFilter
from tests.sqllogs.factories import fill, put_statement, reader
from tests.sqllogs.rings import database

URL = "/sql-logs/"
both_databases = pytest.mark.django_db(databases=["default", "sqllogs"])


def error(answer, status):
    """Return code and field of an error that has the shape."""
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/json"), answer.content
    (body,) = answer.json().values()
    assert list(body) == ["code", "message", "field"]
    assert body["message"]
    return body["code"], body["field"]


@both_databases
@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("?colour=red", 400, "unknown_parameter", "colour"),
        ("health/?colour=red", 400, "unknown_parameter", "colour"),
        ("1/?limit=1", 400, "unknown_parameter", "limit"),
        ("?min_ms=x", 400, "invalid_parameter", "min_ms"),
        ("?limit=0", 400, "invalid_parameter", "limit"),
        ("?limit=1001", 400, "invalid_parameter", "limit"),
        ("?offset=10001", 400, "invalid_parameter", "offset"),
        ("?offset=-1", 400, "invalid_parameter", "offset"),
        ("?limit=100000000000000000000", 400, "invalid_parameter", "limit"),
        ("?cursor=x", 400, "invalid_parameter", "cursor"),
        ("?cursor=1~2&ordering=-id", 400, "invalid_parameter", "cursor"),  # of another ordering
        ("?cursor=1&ordering=rows", 400, "invalid_parameter", "cursor"),
        ("?cursor=1~1e300&ordering=rows", 400, "invalid_parameter", "cursor"),
        ("?cursor=1&offset=0", 400, "invalid_parameter", "offset"),
        ("?ordering=sql", 400, "invalid_parameter", "ordering"),
        ("?ordering=id,rows", 400, "invalid_parameter", "ordering"),
        ("?format=xml", 400, "invalid_parameter", "format"),
        ("?" + "&".join(f"a{number}=1" for number in range(1001)), 400, "parse_error", None),
        ("5000/", 404, "not_found", None),
        ("nothing/", 404, "not_found", None),
        ("1e5/", 404, "not_found", None),
        ("-1/", 404, "not_found", None),
        ("1" * 5000 + "/", 404, "not_found", None),
        ("\u0661/", 404, "not_found", None),  # a digit of another script
    ],
)
def test_error_names_code_and_field(path, status, code, field):
    fill(5)
    assert error(reader().get(URL + path), status) == (code, field)


@both_databases
@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize("route", [str(one.pattern) for one in urls.urlpatterns])
def test_every_address_refuses_an_unknown_parameter(route, method):
    path = re.sub("<str:(.*?)>", "1", route)
    answer = getattr(reader(), method)(f"{URL}{path}?colour=red")
    assert answer.status_code == 400
    if method == "get":
        assert error(answer, 400) == ("unknown_parameter", "colour")


@both_databases
def test_refusals_have_the_shape():
    assert error(Client().get(URL), 401) == ("not_authenticated", None)
    wrong = Client(headers={"Authorization": "Bearer wrong"})
    assert error(wrong.get(URL), 401) == ("authentication_failed", None)
    assert error(reader().post(URL), 405) == ("method_not_allowed", None)


@both_databases
def test_host_that_is_not_allowed_is_put_into_no_link():
    fill(5)
    headers = {"Authorization": f"Bearer {tokens.create('x')}", "Host": "evil.example"}
    answer = RecordList.as_view()(RequestFactory(headers=headers).get(URL, {"limit": 1})).render()
    assert answer.status_code == 400
    assert b"evil" not in answer.content


@pytest.fixture
def bare(settings, tmp_path, django_db_blocker):
    """A ring's database without tables."""
    settings.SQLLOGS = {"DATABASE": "bare"}
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "bare.sqlite3"}
    with django_db_blocker.unblock(), database("bare", settings_dict):
        yield


CLIENT = {"headers": {"Authorization": "Bearer anything"}}


@pytest.mark.usefixtures("bare")
def test_missing_tables_are_a_503_with_the_remedy():
    answer = Client(**CLIENT).get(URL)
    assert error(answer, 503) == ("store_unavailable", None)
    assert "manage.py migrate --database bare" in answer.json()["error"]["message"]


def test_unreachable_database_is_a_503_without_secrets(settings, django_db_blocker):
    settings.SQLLOGS = {"DATABASE": "away"}
    away = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "n",
        "HOST": "127.0.0.1",
        "PORT": 1,
        "USER": "secretary",
    }
    before = guard.faults["reading"]
    with django_db_blocker.unblock(), database("away", away):
        answer = Client(**CLIENT).get(URL)
    assert error(answer, 503) == ("store_unavailable", None)
    assert "OperationalError" in answer.json()["error"]["message"]
    assert "secretary" not in answer.content.decode()
    assert guard.faults["reading"] == before + 1


def test_alias_that_is_not_there_is_a_503(settings, django_db_blocker):
    settings.SQLLOGS = {"DATABASE": "nowhere"}
    with django_db_blocker.unblock():
        answer = Client(**CLIENT).get(URL)
    assert error(answer, 503) == ("store_unavailable", None)
    assert "DATABASES has no alias 'nowhere'" in answer.json()["error"]["message"]


@pytest.mark.usefixtures("bare")
def test_health_has_its_own_fields_in_an_error_too():
    answer = Client(**CLIENT).get(f"{URL}health/")
    body = answer.json()
    assert (answer.status_code, body["status"], body["error"]["code"]) == (
        503,
        "failing",
        "store_unavailable",
    )
    assert body["reasons"] == [body["error"]["message"]]


GROUPING = ("group_by", "step", "top", "source")
ODD_NAMES = ("", "colour", "from\0", "limit[]", "\ud800")
NAMES = (*SQLLogFilter.base_filters, *PARAMETERS, *GROUPING, "format", *ODD_NAMES)
VALUES = (
    *(
        "",
        " ",
        "All",
        "0",
        "1",
        "-1",
        "1.5",
        "1e5",
        "1e400",
        "NaN",
        "-inf",
        "10" * 10,
        "9" * 5000,
        "0x10",
        "1_0",
    ),
    *(
        "true",
        "false",
        "True",
        "null",
        "None",
        "[]",
        "{}",
        "*",
        "%",
        "_",
        "\\",
        "'",
        '"',
        "--",
        ";",
        "a,b",
        ",",
        "\\,",
    ),
    *(
        "\0",
        "a\0b",
        "\ud800",
        "\ufffd",
        "\U0001f600",
        "\u0661",
        "\r\n",
        "\x1b",
        "x" * 2000,
        "x" * 2001,
        "," * 1500,
    ),
    *(
        "now",
        "now-5m",
        "now-",
        "now-9999999999s",
        "now-999999999w",
        "now+999999999w",
        "2026-01-31",
        "2026-13-31",
    ),
    *("0000-00-00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-01-31T25:00Z", "1e11"),
    *(
        "99999999999",
        "9999999999999",
        "99999999999999",
        "-5~1",
        "5~1.5",
        "5~nan",
        "5~",
        "~5",
        "5~1e400",
        "-",
        "-0~0",
    ),
    *(
        "id",
        "-id",
        "-duration_ms",
        "rows",
        "--id",
        "id;drop",
        "json",
        "html",
        "a" * 32,
        "a" * 33,
        "((((",
        "(a+)+$",
    ),
)


def malformed(chooser):
    """Make a query string of one to four parameters, odd names and values among them."""
    pairs = []
    for _ in range(chooser.randint(1, 4)):
        value = chooser.choice(VALUES)
        if chooser.random() < 0.2:
            value += chooser.choice((",", "~", "")) + chooser.choice(VALUES)
        # Most names are right, else all would end at the first check.
        name = chooser.choice(NAMES) if chooser.random() < 0.2 else chooser.choice(NAMES[:-6])
        pairs.append(f"{quoted(name)}={quoted(value)}" if chooser.random() < 0.9 else quoted(name + value))
    return "&".join(pairs)


def quoted(text):
    """Quote without validating UTF-8, as a careless client does."""
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("ring_database", ["sqlite", "postgresql"], indirect=True)
def test_no_malformed_parameter_is_more_than_a_400(ring_alias):
    fill(150, capacity=100)
    put_statement()
    authorization = {"Authorization": f"Bearer {tokens.create('fuzz')}"}
    # The list has most to stumble over.
    patterns = urls.urlpatterns + urls.urlpatterns[:1] * len(urls.urlpatterns)
    chooser = random.Random(3)
    answered = {200: 0, 400: 0, 404: 0}
    for _ in range(1_000):
        query = malformed(chooser)
        request = RequestFactory(headers=authorization).get(URL, QUERY_STRING=query)
        pattern = chooser.choice(patterns)
        arguments = {name: chooser.choice(VALUES) for name in pattern.pattern.converters}
        answer = pattern.callback(request, **arguments)
        if hasattr(answer, "render"):  # not one that is kept for a second
            answer.render()
        assert answer.status_code in answered, query
        answered[answer.status_code] += 1
    assert answered[200] > 80
    assert answered[400] > 400


@both_databases
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("?min_ms=x", "min_ms: Enter a number."),
        # Neither a line break nor anything that a head cannot hold.
        ("?a%0d%0ab=1", "a??b: Unknown parameter 'a"),
        ("1e5/", "Not found: '1e5' is not an id."),
    ],
)
def test_reason_of_an_error_is_its_message(path, reason):
    """Grafana shows nothing else of a failed request."""
    found = reader().get(URL + path).reason_phrase
    assert found.startswith(reason)
    assert found.isascii()
    assert found.isprintable()
    assert len(found) <= responses.REASON_MAX


def test_reason_that_would_be_unreadable_is_the_standard_one():
    assert responses._reason("Bad Request", "\u0437\u0430\u043f\u0440\u043e\u0441", None) == "Bad Request"
