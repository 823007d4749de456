"""Spans, log records and metrics use names of OpenTelemetry's conventions, or names of our own."""

import importlib
import pkgutil

import pytest
from opentelemetry.semconv import attributes, metrics
from opentelemetry.semconv._incubating import attributes as incubating_attributes
from opentelemetry.semconv._incubating import metrics as incubating_metrics
from opentelemetry.semconv._incubating.attributes.db_attributes import DbSystemNameValues
from opentelemetry.semconv.schemas import Schemas

from sqllogs.conf import Conf
from sqllogs.metrics.families import (
    CONNECTION_COUNT,
    DB_BUCKETS_S,
    DB_OPERATION_DURATION,
    HTTP_BUCKETS_S,
    HTTP_DURATION,
    OWN,
)
from sqllogs.otel import SCHEMA_URL
from sqllogs.otel.log_records import LogRecords
from sqllogs.pipeline.resolver import Resolver
from sqllogs.record import FIELDS
from tests.sqllogs.otel.test_spans import exporter, query, spans

__all__ = ["exporter", "spans"]

NOT_STABLE_YET = {"db.response.returned_rows", "process.pid", "host.name"}
"""Attributes whose conventions may still change."""


def names(package):
    """Return the names that the modules of a package of the registry define."""
    found = set()
    for one in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{one.name}")
        found |= {value for key, value in vars(module).items() if key.isupper() and isinstance(value, str)}
    return found


STABLE = names(attributes)
KNOWN = STABLE | names(incubating_attributes)


def all_kinds():
    return [
        query(sql="SELECT a FROM shop_item", rowcount=1, code=all_kinds.__code__),
        query(sql="INSERT INTO shop_item VALUES (1)", many=5),
        query(sql="COMMIT", error=ValueError, sqlstate="40001"),
    ]


def assert_of_the_registry(found):
    assert {name for name in found if not name.startswith("sqllogs.")} <= STABLE | NOT_STABLE_YET
    assert NOT_STABLE_YET <= KNOWN - STABLE  # otherwise they need no exception any more
    assert found.get("db.system.name") in {value.value for value in DbSystemNameValues}


def test_schema_is_one_of_the_registry_s():
    assert SCHEMA_URL in {schema.value for schema in Schemas}


def test_spans_use_names_of_the_conventions(spans):
    made = spans(*all_kinds())
    assert len(made) == 3
    for span in made:
        assert_of_the_registry(dict(span.attributes))
        assert span.instrumentation_scope.schema_url == SCHEMA_URL
        assert span.name == span.attributes["db.query.summary"]
    assert made[1].attributes["db.operation.batch.size"] == 5


def test_log_records_use_names_of_the_conventions_beside_the_fields():
    batch = Resolver(Conf()).batch(all_kinds())
    for number, record in enumerate(batch.records):
        statement = batch.statements[record.fingerprint]
        made = LogRecords(release="1", slow_ms=1.0).from_record(
            record, statement, statement.sql, batch.batch_sizes.get(number)
        )
        assert made.instrumentation_scope.schema_url == SCHEMA_URL
        assert_of_the_registry(
            {name: value for name, value in made.log_record.attributes.items() if name not in FIELDS}
        )


CONVENTIONAL = [family for family in OWN if not family.name.startswith("sqllogs_")]


@pytest.mark.parametrize("family", CONVENTIONAL, ids=lambda family: family.name)
def test_metric_and_its_labels_have_names_of_the_conventions(family):
    known = {name.replace(".", "_") for name in names(metrics) | names(incubating_metrics)}
    assert family.name.removesuffix("_seconds") in known
    assert set(family.labels) <= {name.replace(".", "_") for name in KNOWN}


def test_buckets_and_states_are_those_of_the_conventions():
    # https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#metric-dbclientoperationduration
    assert DB_OPERATION_DURATION.buckets == DB_BUCKETS_S == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    # https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration
    expected = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert HTTP_DURATION.buckets == HTTP_BUCKETS_S == expected
    assert CONNECTION_COUNT.labels[1] == "db_client_connection_state"
