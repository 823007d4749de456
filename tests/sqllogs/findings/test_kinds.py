"""Kinds of findings that need what only capture sees: bad and good code, sent to a real database."""

import re
import sys
import time
from datetime import UTC, datetime
from http.client import HTTPConnection
from types import SimpleNamespace

import pytest
from django import forms
from django.contrib.auth.models import User
from django.db import transaction
from django.template import engines
from rest_framework import serializers

from sqllogs import repeats_allowed, unit_of_work
from sqllogs.findings.detection import detect, take_turn
from sqllogs.metrics.instruments import OutsideCalls, install_outside_calls
from sqllogs.models import Finding
from sqllogs.read.findings import EVIDENCE, SENTENCES, summary
from tests.services import answering
from tests.sqllogs.factories import put_unit, row
from tests.sqllogs.recording import recording
from transactions.models import Account, Category, Transaction

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"], transaction=True)


def render(source, **context):
    return engines["django"].from_string(source).render(context)


class TransactionSerializer(serializers.Serializer):
    category = serializers.CharField(source="category.name")


class CategoryForm(forms.Form):
    category = forms.ModelChoiceField(Category.objects.all())


class Named(Transaction):
    class Meta:
        proxy = True
        app_label = "application"

    def __str__(self):
        return self.category.name


def serialize(rows):
    return TransactionSerializer(rows, many=True).data


def ask_again(times):
    for _ in range(times):
        Category.objects.filter(pk=1).exists()


def ask_after_writing():
    for number in range(4):
        Category.objects.filter(pk=1).exists()
        Category.objects.filter(pk=-number - 1).update(name="x")


def ask_different():
    for number in range(4):
        Category.objects.filter(pk=number).exists()


def ask_pages():
    for number in range(6):
        list(Category.objects.filter(pk__gt=0)[number : number + 1])


def ask_meant():
    with repeats_allowed():
        ask_again(4)


def ask_in_transactions():
    for _ in range(4):
        with transaction.atomic():
            Category.objects.filter(pk=1).exists()
            Category.objects.filter(pk=-1).update(name="x")


def call(port):
    client = HTTPConnection("127.0.0.1", port)
    client.request("GET", "/")
    client.getresponse().read()
    client.close()


def call_inside(port):
    with transaction.atomic():
        Category.objects.filter(pk=1).exists()
        call(port)


def call_outside(port):
    Category.objects.filter(pk=1).exists()
    call(port)


def call_after(port):
    with transaction.atomic():
        Category.objects.filter(pk=1).exists()
        transaction.on_commit(lambda: call(port))


EXAMPLES = [
    ("same_values", True, lambda port: ask_again(4)),
    ("same_values", False, lambda port: ask_again(2)),
    ("same_values", False, lambda port: ask_after_writing()),
    ("same_values", False, lambda port: ask_different()),
    ("same_values", False, lambda port: ask_pages()),
    ("same_values", False, lambda port: ask_meant()),
    ("same_values", False, lambda port: ask_in_transactions()),
    ("rendering", True, lambda port: render("{{ one.category.name }}", one=Transaction.objects.first())),
    ("rendering", True, lambda port: render("{% if all.exists %}x{% endif %}", all=Category.objects.all())),
    ("rendering", True, lambda port: render("{{ all.count }}", all=Category.objects.all())),
    ("rendering", False, lambda port: render("{% for c in all %}.{% endfor %}", all=Category.objects.all())),
    ("rendering", False, lambda port: render("{{ form.category }}", form=CategoryForm())),
    ("rendering", False, lambda port: render("{{ one.owner }}", one=Account.objects.first())),
    ("rendering", True, lambda port: str(Named.objects.first())),
    ("rendering", False, lambda port: str(Named.objects.select_related("category").first())),
    ("rendering", True, lambda port: serialize(Transaction.objects.all()[:3])),
    ("rendering", False, lambda port: serialize(Transaction.objects.select_related("category")[:3])),
    ("outside_call", True, call_inside),
    ("outside_call", False, call_outside),
    ("outside_call", False, call_after),
]  # fmt: skip


def test_client_that_is_imported_late_is_noted_too(monkeypatch):
    class ConnectionPool:
        def handle_request(self, request):
            time.sleep(0.01)
            return request

    class Proxy(ConnectionPool):
        """As httpcore.HTTPProxy."""

    sink = OutsideCalls(())
    sink.set_status(None)
    monkeypatch.setitem(sys.modules, "httpcore", SimpleNamespace(ConnectionPool=ConnectionPool))
    sink.set_status(None)
    sink.set_status(None)
    with unit_of_work("task", "send") as unit:
        assert Proxy().handle_request("outside a transaction") == "outside a transaction"
        assert unit.outside_ns == 0
        with transaction.atomic():
            Category.objects.filter(pk=1).exists()
            assert Proxy().handle_request(request="inside") == "inside"
    assert unit.outside_ns > 9_000_000
    code, _ = unit.outside_site
    assert code.co_name == "test_client_that_is_imported_late_is_noted_too"


@pytest.fixture
def port():
    with answering(lambda: time.sleep(0.01)) as port:
        yield port


def test_bad_code_is_found_and_good_code_is_not(port):
    install_outside_calls()
    owner = User.objects.create(username="ann")
    account = Account.objects.create(owner=owner, iban="x")
    for name in "abc":
        category = Category.objects.create(name=name)
        plain = {"user": owner, "account": account, "amount": 1, "timestamp": datetime.now(UTC)}
        Transaction.objects.create(category=category, type="income", **plain)
    with recording("sqllogs") as recorder:
        for number, (_, _, example) in enumerate(EXAMPLES):
            with unit_of_work("request", f"example {number}") as unit:
                unit.route = f"example/{number}/"
                example(port)
        assert recorder.writer.flush(30)
    now = datetime.now(UTC)
    detect(take_turn(now, 0), now)
    found = set(Finding.objects.values_list("kind", "route"))
    wrong = [
        (number, kind, is_bad)
        for number, (kind, is_bad, _) in enumerate(EXAMPLES)
        if ((kind, f"example/{number}/") in found) is not is_bad
    ]
    assert wrong == [], sorted(found)


@pytest.mark.parametrize(
    ("connections", "queries", "is_found"),
    [(9, 9, True), (9, 14, True), (9, 40, False), (3, 3, False), (None, 9, False)],
)
def test_connection_for_each_query_is_found(connections, queries, is_found):
    one = row(1, unit_id="b" * 16, trace_id="a" * 32, route="orders/", kind="request")
    put_unit(one, slot=0, connections=connections, queries=queries)
    now = datetime.now(UTC)
    found = [finding.kind for finding in detect(take_turn(now, 0), now)]
    assert found == (["connection_per_query"] if is_found else [])


def test_figures_are_written_as_elsewhere():
    idle = Finding(kind="idle_transaction", evidence={"idle_ms_max": 1202.6})
    assert summary(idle) == "A transaction is open for up to 1,203 ms without a statement."
    unbounded = Finding(kind="unbounded", evidence={"rows_max": 1_234_567})
    assert summary(unbounded) == "Returns up to 1,234,567 rows without LIMIT."
    repeated = Finding(kind="n_plus_one", evidence={"times_per_unit": 25.0})
    assert summary(repeated) == "Sent 25 times per request or task."


def test_each_figure_of_a_sentence_has_a_label():
    named = {name for sentence in SENTENCES.values() for name in re.findall(r"%\((\w+)\)s", str(sentence))}
    assert sorted(named - set(EVIDENCE)) == []
