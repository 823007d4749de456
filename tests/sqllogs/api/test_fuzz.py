"""Requests that schemathesis makes up from the description, right ones and wrong ones.

None is answered by a 5xx, and every answer keeps to the description. `make fuzz` asks more of them.
"""

import json
import os
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jsonschema_rs
import pytest
import requests
import schemathesis
from django import urls
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from tests.sqllogs.factories import BEGINNING, put, put_process, put_statement, put_statistics, reader

DOCUMENT = json.loads((Path(__file__).parents[3] / "sqllogs/openapi.json").read_text())
CASES = int(os.environ.get("FUZZ_CASES", "60"))
"""For each database, over all operations."""
SEED = int(os.environ.get("FUZZ_SEED", "3"))
BASE = "http://testserver/sql-logs"
SETTINGS = settings(
    database=None,
    phases=[Phase.generate],  # without shrinking, which takes minutes
    suppress_health_check=list(HealthCheck),
)


def populate():
    """Fill a ring beyond its end, with what each operation has to tell."""
    unit = {"trace_id": "a" * 32, "unit_id": "b" * 16, "route": "a/", "view": "v.a", "method": "GET"}
    repeated = unit | {"call_site": "a.py:1 f", "fingerprint": "a" * 16}
    odd = {"view": "=1+1", "route": "^é{1,2}/(?P<id>\\d+)/$", "error": "DataError", "rows": None}
    put(*[repeated] * 60, *[odd] * 20, *[{"duration_ms": 1e9, "rows": 2**62, "release": "1"}] * 40)
    put_statement("a" * 16, "SELECT x FROM t WHERE id = ?", tables="t,u")
    put_statement("f" * 16, "INSERT INTO \U0001f600", operation="INSERT")
    put_statistics({"time": BEGINNING}, {"time": BEGINNING, "fingerprint": "a" * 16, "route": "a/"})
    put_process(BEGINNING)


def resolve(path):
    try:
        return urls.resolve(unquote(path))
    except urls.Resolver404:
        return None


class Keeper:
    """Asks, and holds the answers to the description."""

    def __init__(self):
        self.client = reader("fuzz")
        self.statuses = Counter()
        self._validators = {}

    def ask(self, path, case):
        url = requests.Request(**self._request(case)).prepare().url
        parts = urlsplit(url)
        answer = self.client.get(f"{parts.path}?{parts.query}", headers=self._headers(case))
        self.statuses[answer.status_code] += 1
        if answer.status_code == 404 and resolve(parts.path) is None:
            return  # an address that is not ours
        described = DOCUMENT["paths"][path]["get"]["responses"]
        assert answer.status_code < 500, (answer.content, url)
        assert str(answer.status_code) in described, (answer.status_code, url)
        if answer.status_code == 304:
            return
        kind = answer.headers.get("Content-Type", "application/x-ndjson").partition(";")[0]
        content = described[str(answer.status_code)]["content"]
        assert kind in content, (kind, url)
        if kind == "application/json":
            self._validate(path, answer, content[kind]["schema"], url)

    def _validate(self, path, answer, schema, url):
        key = (path, answer.status_code)
        if key not in self._validators:
            whole = {**schema, "components": DOCUMENT["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        error = next(self._validators[key].iter_errors(answer.json()), None)
        assert error is None, (url, str(error)[:500])

    @staticmethod
    def _request(case):
        made = case.as_transport_kwargs(base_url=BASE)
        return {"method": "GET", "url": made["url"], "params": made.get("params")}

    @staticmethod
    def _headers(case):
        # The token stays the right one: what wrong ones are told is no matter of parameters. A wrong
        # host is refused by Django itself.
        made = {name: value for name, value in (case.headers or {}).items() if value.isascii()}
        return {name: value for name, value in made.items() if name.lower() not in ("authorization", "host")}


def ask_made_up(keeper, operation, mode, cases):
    path = operation.path

    @seed(SEED)
    @settings(SETTINGS, max_examples=cases)
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case):
        keeper.ask(path, case)

    ask()


@pytest.mark.filterwarnings("ignore")  # schemathesis and hypothesis have some of their own
@pytest.mark.parametrize("ring_database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_made_up_requests_are_answered_as_described(ring_alias, ring_database, capsys):
    populate()
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    operations = [found.ok() for found in schema.get_all_operations()]
    keeper = Keeper()
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            ask_made_up(keeper, operation, mode, max(1, CASES // len(operations) // 2))
    assert keeper.statuses[200] > CASES / 10
    assert keeper.statuses[400] > CASES / 10
    with capsys.disabled():
        if "FUZZ_CASES" in os.environ:
            counted = dict(keeper.statuses)
            print(f"\n{ring_database['ENGINE']}: {sum(counted.values())} requests, {counted}")
