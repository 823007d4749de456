"""Each filter chooses what it says, on every database, and refuses what makes no sense."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.http import QueryDict
from django.utils import timezone

from sqllogs.conf import Conf
from sqllogs.errors import ParameterError
from sqllogs.read.parameters import InstantField, SQLLogFilter, escaped
from tests.sqllogs.factories import BEGINNING, put, put_statement

RECORDS = (
    {
        "duration_ms": 0.5,
        "alias": "default",
        "kind": "request",
        "method": "GET",
        "route": "a/",
        "view": "a.A",
    },
    {"duration_ms": Conf().slow_ms, "alias": "other", "vendor": "postgresql", "kind": "task", "view": "b,c"},
    {"duration_ms": 20.0, "error": "IntegrityError", "trace_id": "0" * 30 + "ab", "request_id": "r-1"},
    {"duration_ms": 30.0, "error": "DataError", "call_site": "shop/views.py:42 items", "release": "1.0"},
    {"duration_ms": 40.0, "fingerprint": "00000000000000aa", "host": "web-2"},
    {
        "duration_ms": 50.0,
        "fingerprint": "00000000000000bb",
        "call_site": "shop/x,y.py:1 f",
        "method": "POST",
    },
)


def chosen(query):
    """Return the numbers of the records that a query string chooses."""
    return sorted(SQLLogFilter.from_query(QueryDict(query)).qs.values_list("seq", flat=True))


CASES = [
    ("", [1, 2, 3, 4, 5, 6]),
    ("min_ms=20&max_ms=40", [3, 4, 5]),  # both ends belong to it
    ("slow=true", [2]),
    ("slow=false", [1, 3, 4, 5, 6]),
    ("from=2026-01-31T12:00:03Z&to=2026-01-31T12:00:05Z", [3, 4]),  # the end does not belong to it
    ("from=2026-01-31T14:00:03%2B02:00", [3, 4, 5, 6]),
    (f"to={int(BEGINNING.timestamp()) + 3}", [1, 2]),
    (f"from={int(BEGINNING.timestamp()) + 3}999", [4, 5, 6]),  # milliseconds
    ("from=now-5m", []),
    ("alias=other", [2]),
    ("alias=other,default", [1, 2, 3, 4, 5, 6]),
    ("alias=other&alias=nowhere", [2]),
    ("vendor=postgresql", [2]),
    ("kind=task,command", [2]),
    ("method=post", [6]),
    ("route=a/", [1]),
    ("view=a.A", [1]),
    (r"view=b\,c", [2]),  # a comma of the value itself
    ("view=b,c", []),
    ("release=1.0", [4]),
    ("host=web-2", [5]),
    ("trace_id=AB", [3]),  # padded and in lower case
    ("request_id=r-1", [3]),
    ("fingerprint=00000000000000aa,bb", [5, 6]),
    ("error=true", [3, 4]),
    ("error=false", [1, 2, 5, 6]),
    ("error=DataError", [4]),
    ("error=DataError,false", [1, 2, 4, 5, 6]),
    ("call_site=views.py:42", [4]),
    (r"call_site=x\,y.py,views.py", [4, 6]),
    ("operation=insert,delete", [6]),
    ("table=USERS", [5]),
    ("table=user", []),  # no part of a name
    ("table=orders,items", [5, 6]),
    ("search=count(*), name", [5]),  # a search is one text, commas and all
    ("search=100%25", [6]),  # no wildcard
    ("search=_", []),
    ("alias=&kind=All&view=$__all&search=%20&trace_id=", [1, 2, 3, 4, 5, 6]),  # what Grafana sends
    ("alias=All,other", [1, 2, 3, 4, 5, 6]),
]


def test_every_filter_chooses_its_records(ring_alias):
    put(*RECORDS)
    put_statement("00000000000000aa", "SELECT COUNT(*), name", tables="users,orders")
    put_statement("00000000000000bb", "INSERT 100%", operation="INSERT", tables="items")
    found = {query: chosen(query) for query, _ in CASES}
    assert found == dict(CASES)


def test_call_sites_are_compared_once_and_not_for_each_record(ring_alias):
    records = SQLLogFilter.from_query(QueryDict("call_site=views.py")).qs
    assert connections[ring_alias].vendor != "sqlite" or "JOIN" not in records.values("slot").explain()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=now-5y", "to"),
        ("from=now-999999999w", "from"),
        ("from=0001-01-01T00:00:00%2B23:00", "from"),  # before the first year
        ("from=99999999999999999999", "from"),
        ("min_ms=NaN", "min_ms"),
        ("min_ms=inf", "min_ms"),
        ("max_ms=-1", "max_ms"),
        ("max_ms=1e400", "max_ms"),
        ("min_ms=1&min_ms=2", "min_ms"),
        ("trace_id=xyz", "trace_id"),
        ("trace_id=" + "0" * 33, "trace_id"),
        ("fingerprint=%00", "fingerprint"),
        ("slow=perhaps", "slow"),
        ("search=%00", "search"),
        ("search=" + "x" * 2001, "search"),
        ("view=" + "x," * 101, "view"),
    ],
)
def test_senseless_value_is_refused_by_its_name(query, field):
    with pytest.raises(ParameterError) as caught:
        SQLLogFilter.from_query(QueryDict(query))
    assert caught.value.field == field


def test_lone_surrogate_is_refused():
    query = QueryDict(mutable=True)
    query["search"] = "\ud800"
    with pytest.raises(ParameterError, match="character"):
        SQLLogFilter.from_query(query)


def test_unknown_parameter_is_refused_and_the_known_are_listed():
    with pytest.raises(
        ParameterError, match=r"Unknown parameter 'colour'. Valid parameters: .*, from, host, .*limit"
    ):
        SQLLogFilter.from_query(QueryDict("colour=red"), ["limit"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00.123456Z", datetime(2026, 1, 31, 12, microsecond=123456, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, microsecond=123456, tzinfo=UTC)),
        ("2026-01-31T12:00:00-01:30", datetime(2026, 1, 31, 13, 30, tzinfo=UTC)),
        ("2026-01-31T12:00:00 01:00", datetime(2026, 1, 31, 11, tzinfo=UTC)),  # a + that became a space
        ("2026-01-31 12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),  # UTC unless it says otherwise
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("1769860800", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("1769860800.5", datetime(2026, 1, 31, 12, microsecond=500000, tzinfo=UTC)),
        ("1769860800123", datetime(2026, 1, 31, 12, microsecond=123000, tzinfo=UTC)),
        ("", None),
    ],
)
def test_time_is_read_in_every_form(text, expected):
    assert InstantField(required=False).clean(text) == expected


@pytest.mark.parametrize(
    ("text", "delta"), [("now", 0), ("now-90s", 90), ("now-5m", 300), ("now-2h", 7200), ("now+1d", -86400)]
)
def test_time_is_read_relative_to_now(text, delta):
    age = timezone.now() - InstantField().clean(text)
    assert abs(age - timedelta(seconds=delta)) < timedelta(seconds=2)


def test_escaped_value_is_one_value():
    query = QueryDict(mutable=True)
    query["route"] = escaped(r"^x{1,3}/(?P<id>\d+)/$")
    filterset = SQLLogFilter.from_query(query)
    assert filterset.form.cleaned_data["route"] == [r"^x{1,3}/(?P<id>\d+)/$"]
