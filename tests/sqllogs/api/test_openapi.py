"""The description of the API is current, its examples are answers, and it is served."""

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from django.test import Client

from sqllogs import urls
from sqllogs.api import views
from sqllogs.models import Event, Finding, Review, StoredPlan
from sqllogs.read.parameters import SQLLogFilter
from tests.sqllogs.factories import BEGINNING, put, put_process, put_statement, reader
from tests.sqllogs.openapi import ANSWERS, IDS, PARAMETERS, document

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
ROOT = Path(__file__).parents[3]
JSON, YAML = ROOT / "sqllogs/openapi.json", ROOT / "docs/openapi.yaml"
URL = "/sql-logs/"
UNIT = {
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "unit_id": "00f067aa0ba902b7",
    "call_site": "shop/views.py:42 orders",
    "route": "orders/",
    "view": "shop.views.orders",
    "method": "GET",
    "status": 200,
    "release": "1.4.2",
}
ADDRESSES = {
    views.RecordList: "?limit=1&to=2026-01-31T12:00:30Z",
    views.RecordDetail: "6/",
    views.HealthView: "health/",
    views.StatsView: "stats/?to=2026-01-31T12:00:30Z",
    views.SeriesView: "series/?step=1m&group_by=view&to=2026-01-31T12:00:30Z",
    views.RequestsView: "requests/?to=2026-01-31T12:00:30Z",
    views.RepeatsView: "repeats/?to=2026-01-31T12:00:30Z",
    views.TraceView: f"traces/{UNIT['trace_id']}/?limit=1&to=2026-01-31T12:00:30Z",
    views.FingerprintView: f"fingerprints/{'f' * 16}/?to=2026-01-31T12:00:30Z&operation=SELECT",
    views.FindingsView: "findings/",
    views.ReviewsView: "reviews/",
    views.PlanView: "plans/2/",
    views.EventsView: "events/",
    views.SettingsView: "settings/",
    views.SavedViewsView: "views/",
}


@pytest.fixture
def made():
    """The document as the code says it now, with real answers as examples."""
    put(*[UNIT | {"duration_ms": 1.25, "rows": 1}] * 6)
    put_statement(sql="SELECT id, name FROM shop_customer WHERE id = ? LIMIT ?", tables="shop_customer")
    put_process(BEGINNING)
    Event.objects.create(id=1, time=BEGINNING, kind="deploy", title="Release 1.4.2", tags=["1.4.2"])
    times = {"first_seen": BEGINNING, "last_seen": BEGINNING, "started_at": BEGINNING}
    evidence = {"times_per_unit": 25.0, "times_max": 25, "total_ms": 31.25, "trace_id": UNIT["trace_id"]}
    named = {name: UNIT[name] for name in ("call_site", "route", "release")}
    Finding.objects.create(
        id=1,
        key="k",
        kind="n_plus_one",
        fingerprint="f" * 16,
        evidence=evidence,
        occurrences=3,
        **times,
        **named,
    )
    decision = {"status": "ignored", "by": "ann", "note": "By night only.", "until_release": "1.4.2"}
    Review.objects.create(fingerprint="f" * 16, at=BEGINNING, **decision)
    plan = {"fingerprint": "f" * 16, "alias": "default", "vendor": "sqlite", "release": "1.4.2"}
    steps = ("SCAN shop_customer", "SEARCH shop_customer USING INDEX shop_customer_name (name=?)")
    for number, step in enumerate(steps, 1):
        StoredPlan.objects.create(id=number, lines=[step], made_at=BEGINNING, seen_at=BEGINNING, **plan)
    client = reader()
    examples = {view: client.get(URL + address).json() for view, address in ADDRESSES.items()}
    settings_example = examples[views.SettingsView]  # one is enough, and none changes with each new setting
    examples[views.SettingsView] = settings_example | {"count": 1, "results": settings_example["results"][:1]}
    shown = {"id": 1, "name": "slow checkouts", "page": "requests", "saved_at": "2026-01-31T12:00:00.000000Z"}
    shown["url"] = f"{URL}requests/?route=checkout%2F&ordering=-elapsed_ms"
    examples[views.SavedViewsView] = {"count": 1, "results": [shown]}  # a token has none
    examples[views.HealthView]["ring"]["oldest_age_s"] = 3600.0  # the one figure that the clock moves
    return document(examples)


def test_description_is_current(made):
    if os.environ.get("UPDATE_OPENAPI") == "1":
        JSON.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
        YAML.write_text(yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=110))
    assert json.loads(JSON.read_text()) == made, "run `make openapi`"
    assert yaml.safe_load(YAML.read_text()) == made, "run `make openapi`"


def test_every_address_and_parameter_is_described(made):
    addresses = {re.sub("<str:(.*)>", r"{\1}", f"/{pattern.pattern}") for pattern in urls.urlpatterns}
    assert set(made["paths"]) == addresses - {"/schema/"}
    assert set(SQLLogFilter.base_filters) <= set(PARAMETERS)
    for address in made["paths"].values():
        assert address["get"]["description"]
        assert all(one["description"] for one in address["get"]["parameters"])


def schema_of(made, operation):
    response = made["paths"][operation]["get"]["responses"]["200"]["content"]["application/json"]
    return response["schema"] | {"components": made["components"]}, response["examples"]["Example"]["value"]


def test_examples_are_answers_that_keep_to_the_schema(made):
    assert set(ANSWERS) == set(ADDRESSES)
    for operation in made["paths"]:
        schema, example = schema_of(made, operation)
        jsonschema.Draft202012Validator(schema).validate(example)
        assert example.get("results", [1]), operation


def test_schema_refuses_what_is_no_answer(made):
    schema, example = schema_of(made, "/stats/")
    for wrong in ({**example, "count": "1"}, {**example, "more": 1}, {"results": []}):
        assert not jsonschema.Draft202012Validator(schema).is_valid(wrong)


def test_description_is_served_to_readers_with_the_address_that_was_asked(settings):
    settings.REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "nowhere.at.all"}
    settings.SPECTACULAR_SETTINGS = {"POSTPROCESSING_HOOKS": ["nowhere.at.all"]}
    answer = reader().get(f"{URL}schema/")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    body = answer.json()
    assert body["servers"] == [{"url": "http://testserver/sql-logs"}]
    assert body["paths"].keys() == json.loads(JSON.read_text())["paths"].keys()
    assert Client().get(f"{URL}schema/").status_code == 401
    assert reader("x").get(f"{URL}schema/?x=1").status_code == 400


def test_ids_in_addresses_are_described(made):
    for name, address in [("id", "/{id}/"), ("trace_id", "/traces/{trace_id}/")]:
        (parameter,) = [one for one in made["paths"][address]["get"]["parameters"] if one["in"] == "path"]
        assert (parameter["name"], parameter["schema"]["pattern"]) == (name, IDS[name][0])
