"""The writer's thread counts each record once for Prometheus."""

from types import SimpleNamespace

import pytest
from django.db import IntegrityError
from prometheus_client import CollectorRegistry

from sqllogs import context, guard
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.metrics import families, instruments, multiprocess, sink, values
from sqllogs.metrics.collector import ProcessCollector
from sqllogs.metrics.multiprocess import Slots
from sqllogs.metrics.sink import MetricsSink
from sqllogs.pipeline.resolver import Resolver
from sqllogs.record import Batch, EndedUnit, ProcessCounts, WriterStatus
from tests.sqllogs.pipeline.test_resolver import captured


def batch(*changes):
    return Resolver(Conf()).batch([captured(**one) for one in changes])


def writer_status(*, captured=0, stored=0, queued=0, flush_s=None, **dropped):
    counts = ProcessCounts(captured=captured, stored=stored, dropped=dropped, queued=queued)
    return WriterStatus(counts=counts, queue_bytes=queued * 1024, lag_s=0.25 * queued, flush_s=flush_s)


@pytest.fixture
def shared(tmp_path, monkeypatch):
    made = Slots(tmp_path)
    monkeypatch.setattr(multiprocess, "slots", made)
    return made


@pytest.fixture
def one(shared, monkeypatch):
    monkeypatch.setattr(sink, "PUBLISH_S", 0.0)
    monkeypatch.setattr(values, "latest", {})
    context.finished.clear()
    return MetricsSink(Conf(), with_django_db=True)


def series(one, family):
    return one._values.series(family)


def test_statement_is_counted_by_alias_and_operation_with_its_trace(one):
    unit = UnitOfWork("request", trace_id=0xABC)
    one.add(batch({"unit": unit}, {"sql": "UPDATE x SET y = 1", "rowcount": 7, "unit": unit}))
    counted = series(one, families.QUERY_DURATION)
    assert {labels: value.counts[4] for labels, value in counted.items()} == {
        ("default", "SELECT"): 1,
        ("default", "UPDATE"): 1,
    }
    assert counted["default", "SELECT"].exemplars[4].trace_id == f"{0xABC:032x}"
    assert series(one, families.QUERY_ROWS) == {("default", "UPDATE"): 7}
    assert series(one, families.DB_EXECUTE) == {("default", "sqlite"): 2}


def test_nothing_is_counted_until_there_is_a_reader(monkeypatch):
    monkeypatch.setattr(multiprocess, "slots", None)
    monkeypatch.setattr(sink, "VIEWS", ())
    monkeypatch.setattr(sink, "PUBLISH_S", 0.0)
    monkeypatch.setattr(values, "asked", False)
    monkeypatch.setattr(values, "latest", {})
    without = MetricsSink(Conf(), with_django_db=False)
    with_port = MetricsSink(Conf(metrics_port=9110), with_django_db=False)
    for one in (without, with_port):
        one.add(batch({}))
        one.count(batch({}))
        one.set_status(writer_status(captured=2))
        one.close(0.0)
    assert series(without, families.QUERY_DURATION) == {}
    (counted,) = series(with_port, families.QUERY_DURATION).values()
    assert sum(counted.counts) == 2
    list(ProcessCollector().collect())  # as a view of the project does
    without.add(batch({}))
    (counted,) = series(without, families.QUERY_DURATION).values()
    assert sum(counted.counts) == 1


def test_registering_the_collector_is_no_reading(monkeypatch):
    monkeypatch.setattr(values, "asked", False)
    registry = CollectorRegistry(auto_describe=True)  # as prometheus_client's own
    registry.register(ProcessCollector())
    assert not values.asked
    list(registry.collect())
    assert values.asked


def test_batch_of_several_portions_is_counted_whole(one):
    request, job = UnitOfWork("request"), UnitOfWork("task", view="nightly")
    count = 2 * sink.PORTION_ROWS + 10
    one.add(batch(*({"unit": job if number % 2 else request, "rowcount": 1} for number in range(count))))
    one.close(1.0)
    assert sum(series(one, families.QUERY_DURATION)["default", "SELECT"].counts) == count
    assert sum(series(one, families.DB_DURATION)["default", "sqlite"].counts) == count
    assert series(one, families.QUERY_ROWS) == {("default", "SELECT"): count}
    assert series(one, families.JOB_QUERIES) == {("task", "nightly"): count // 2}
    assert series(one, families.REQUEST_QUERIES)["<unnamed view>", ""].sum == count // 2


def test_exemplar_of_a_bucket_is_its_last_record_with_a_trace(one):
    first, last = UnitOfWork("request", trace_id=0xABC), UnitOfWork("request", trace_id=0xDEF)
    one.add(batch({"unit": first}, {"unit": last}, {}))
    exemplars = series(one, families.QUERY_DURATION)["default", "SELECT"].exemplars
    assert [found.trace_id for found in exemplars if found] == [f"{0xDEF:032x}"]


def test_records_over_otlp_are_counted_by_outcome_from_the_beginning(shared):
    one = MetricsSink(Conf(otlp="http://h"), with_django_db=False)
    assert set(series(one, families.EXPORTED).values()) == {0}
    for sent in (5, 8):
        counts = ProcessCounts(
            captured=9, stored=9, dropped={}, queued=0, exported={"sent": sent, "queued": 1}
        )
        one.set_status(WriterStatus(counts=counts, queue_bytes=0, lag_s=0.0, flush_s=None))
    counted = {labels: value for labels, value in series(one, families.EXPORTED).items() if value}
    assert counted == {("sent",): 8}  # what waits has not ended yet


@pytest.mark.parametrize(("sqlstate", "sqlstate_class"), [("23505", "23"), (None, "none")])
def test_error_is_counted_by_class_of_exception_and_of_sqlstate(one, sqlstate, sqlstate_class):
    one.add(batch({"error": ValueError, "sqlstate": sqlstate}))
    assert series(one, families.QUERY_ERRORS) == {("default", "ValueError", sqlstate_class): 1}
    counted = {labels: value for labels, value in series(one, families.DB_ERRORS).items() if value}
    assert counted == {("default", "sqlite", "ValueError"): 1}


def test_errors_begin_at_zero_because_increase_ignores_the_first_value(one):
    one.add(batch({}))
    types = {labels[2] for labels, value in series(one, families.DB_ERRORS).items() if value == 0}
    assert {"IntegrityError", "OperationalError"} < types
    one.add(batch({"error": IntegrityError}, {"alias": "other"}))
    assert series(one, families.DB_ERRORS)["default", "sqlite", "IntegrityError"] == 1
    assert series(one, families.DB_ERRORS)["other", "sqlite", "IntegrityError"] == 0


def test_zeros_of_many_databases_take_no_error_its_place(one):
    one.add(batch(*({"alias": f"tenant{number}"} for number in range(300)), {"error": ValueError}))
    assert series(one, families.DB_ERRORS)["default", "sqlite", "ValueError"] == 1


def test_executemany_is_counted_as_such(one):
    one.add(batch({"many": True}, {}))
    assert series(one, families.DB_EXECUTE_MANY) == {("default", "sqlite"): 1}


def test_job_is_counted_when_it_has_ended_and_its_statements_before(one):
    with context.unit_of_work("task", "nightly") as unit:
        one.add(batch({"unit": unit}, {"unit": unit}))
        one.set_status(writer_status())
        assert series(one, families.JOBS) == {}
        assert series(one, families.JOB_QUERIES) == {("task", "nightly"): 2}
    one.set_status(writer_status())
    assert series(one, families.JOBS) == {("task", "nightly", "ok"): 1, ("task", "nightly", "error"): 0}
    assert sum(series(one, families.JOB_DURATION)["task", "nightly"].counts) == 1


def test_names_made_from_input_do_not_grow_the_series_and_each_is_counted(one):
    for number in range(1_000):
        with context.unit_of_work("task", f"import-{number}") as unit:
            one.add(batch({"unit": unit}))
        one.set_status(writer_status())
    for family in (families.JOBS, families.JOB_QUERIES, families.JOB_SQL, families.JOB_DURATION):
        assert len(series(one, family)) == family.series_max + 1
    assert sum(series(one, families.JOBS).values()) == 1_000
    assert series(one, families.JOB_QUERIES)["task", "other"] == 1_000 - families.JOB_QUERIES.series_max


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SystemExit(0), "ok"),
        (SystemExit(1), "error"),
        (ValueError(), "error"),
        (KeyboardInterrupt(), "error"),
    ],
)
def test_job_that_raises_has_failed_unless_it_exits_with_zero(one, error, outcome):
    with pytest.raises(type(error)), context.unit_of_work("command", "x"):
        raise error
    one.set_status(writer_status())
    # Both begin, because increase() ignores the first value of a series.
    found = {"ok": 0, "error": 0} | {outcome: 1}
    assert series(one, families.JOBS) == {("command", "x", name): count for name, count in found.items()}


def test_status_of_the_writer_is_exported(one):
    one.set_status(writer_status(captured=10, stored=7, queued=1, buffer_rows=2, flush_s=0.02))
    one.set_status(writer_status(captured=12, stored=10, queued=0, buffer_rows=2))
    assert series(one, families.CAPTURED) == {(): 12}
    assert series(one, families.STORED) == {(): 10}
    lost = {("buffer_rows",): 2, ("buffer_bytes",): 0, ("uncounted",): 0, ("rejected",): 0}
    assert series(one, families.DROPPED) == lost
    assert [series(one, family)[()] for family in (families.QUEUE_ROWS, families.QUEUE_BYTES)] == [0, 0]
    assert series(one, families.LAG) == {(): 0}
    assert sum(series(one, families.FLUSH)[()].counts) == 1


def test_counter_does_not_go_down_when_a_muted_query_is_taken_out(one):
    for captured_now in (5, 4, 6):
        one.set_status(writer_status(captured=captured_now))
    assert series(one, families.CAPTURED) == {(): 6}


def test_faults_and_connections_before_the_fork_are_not_counted(one, monkeypatch):
    """The parent counts them."""
    guard.faults["before"] += 3
    monkeypatch.setattr(
        instruments, "counts", lambda: {(families.DB_CONNECTIONS.name, "default", "sqlite"): 4}
    )
    later = MetricsSink(Conf(), with_django_db=True)
    guard.faults["before"] += 1
    later.set_status(writer_status())
    assert series(later, families.FAULTS) == {("before",): 1}
    assert series(later, families.DB_CONNECTIONS) == {}


def test_next_process_of_a_slot_goes_on_counting(one, shared):
    one.add(batch({}))
    one.set_status(writer_status(captured=1, stored=1, queued=1))
    one.close(1.0)
    following = MetricsSink(Conf(), with_django_db=True)
    following.add(batch({}, {}))
    following.set_status(writer_status(captured=2, stored=2))
    assert series(following, families.STORED) == {(): 3}
    assert series(following, families.DB_EXECUTE) == {("default", "sqlite"): 3}
    assert series(following, families.QUEUE_ROWS) == {(): 0}


def test_file_is_written_at_most_once_a_second_and_at_the_end(one, shared, monkeypatch):
    monkeypatch.setattr(sink, "PUBLISH_S", 1e9)
    one._published_s = 0.0
    one.set_status(writer_status(captured=1))
    path = shared.folder / values.FILE.format(shared.slot())
    assert not path.exists()
    one.close(1.0)
    assert values.read(path)["sqllogs_captured"] == [[[], 1]]


def test_nothing_is_written_while_nothing_changes(one, shared):
    one.set_status(writer_status(captured=1))
    path = shared.folder / values.FILE.format(shared.slot())
    path.unlink()
    one.set_status(writer_status(captured=1))
    assert not path.exists()


def test_missing_folder_is_a_fault_of_the_sink_only(one, shared, way):
    from sqllogs.pipeline.sinks import Sinks

    sinks = Sinks([one])
    one._open_file()
    one._path = shared.folder / "gone" / "sqllogs-0.json"
    before = guard.faults["MetricsSink"]
    sinks.set_status(writer_status(captured=1))
    assert guard.faults["MetricsSink"] == before + 1


def test_there_is_no_sink_without_prometheus_client(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    assert sink.make(Conf()) is None


def ended(*, duration_ms=30.0, status=200, exception=None, method="GET", failed=False):
    unit = UnitOfWork("request", trace_id=0xABC, method=method)
    unit.url_name, unit.status, unit.exception = "shop:item", status, exception
    unit.duration_ns = int(duration_ms * 1e6)
    return EndedUnit(unit, 5, failed, 0, "request", "item/", "v", method, None, None)


def test_request_is_counted_by_view_with_its_trace_even_without_queries(one):
    units = [ended(), ended(status=500, exception="ValueError", failed=True), ended(status=503, failed=True)]
    one.add(Batch(records=[], ended=units))
    found = series(one, families.REQUEST_DURATION)["shop:item", "item/"]
    assert (sum(found.counts), found.sum) == (3, pytest.approx(0.09))
    assert [exemplar.trace_id for exemplar in found.exemplars if exemplar] == [f"{0xABC:032x}"]
    assert series(one, families.REQUEST_ERRORS) == {
        ("shop:item", "item/", "ValueError"): 1,
        ("shop:item", "item/", "503"): 1,
    }


def test_request_of_half_a_minute_is_below_a_limit(one):
    """Prometheus takes what is beyond the highest limit for that limit: a p99.9 of 28.6 s was 10 s."""
    one.add(Batch(records=[], ended=[ended(duration_ms=20_000)]))
    found = series(one, families.REQUEST_DURATION)["shop:item", "item/"]
    assert found.counts[-1] == 0
    assert sum(found.counts) == 1


def test_unit_that_left_a_transaction_open_without_a_statement_is_counted(one):
    units = [ended() for _ in range(3)]
    for unit, idle_ms in zip(units, (2_500.0, 10.0, None), strict=True):
        if idle_ms is not None:
            unit.unit.row = SimpleNamespace(transactions=SimpleNamespace(idle_max_ms=idle_ms))
    task = EndedUnit(UnitOfWork("task"), 5, False, 1, "task", None, "shop.tasks.pay", None, None, None)
    task.unit.row = units[0].unit.row
    one.add(Batch(records=[], ended=[*units, task]))
    assert series(one, families.TRANSACTIONS_IDLE) == {
        ("request", "shop:item"): 1,
        ("task", "shop.tasks.pay"): 1,
    }


def test_request_is_counted_by_the_conventions_and_its_labels_are_bounded(one):
    units = [ended(method="BREW", status=499, exception="CancelledError")]
    units += [ended(status=500, exception=f"Error{number}", failed=True) for number in range(1_000)]
    one.add(Batch(records=[], ended=units))
    found = series(one, families.HTTP_DURATION)
    assert ("_OTHER", "http", "499", "", "item/") in found
    assert len(found) <= 2 * families.HTTP_DURATION.series_max + 1
    assert sum(sum(value.counts) for value in found.values()) == 1_001


def test_statement_is_counted_by_the_conventions_in_wider_buckets(one):
    unit = UnitOfWork("request", trace_id=0xABC)
    durations_ms = (0.05, 0.9, 1.0, 3.0, 5.0, 7.0, 60_000.0)
    queries = [{"execute_ns": int(ms * 1e6), "unit": unit} for ms in durations_ms]
    failed = {"execute_ns": 3_000_000, "error": ValueError, "sqlstate": "23505"}
    one.add(batch(*queries, failed))
    found = series(one, families.DB_OPERATION_DURATION)
    plain, wrong = sorted(found)
    assert (plain[0], plain[2:], wrong[2:]) == ("sqlite", ("", ""), ("23505", "ValueError"))
    assert found[plain].counts == [3, 2, 1, 0, 0, 0, 0, 0, 0, 1]
    assert found[plain].sum == pytest.approx(sum(durations_ms) / 1000)
    assert found[plain].exemplars[0].trace_id == f"{0xABC:032x}"
    assert (sum(found[wrong].counts), found[wrong].sum) == (1, 0.003)


def test_job_has_its_trace_as_exemplar(one):
    with context.unit_of_work("task", "nightly") as unit:
        pass
    one.set_status(writer_status())
    exemplars = series(one, families.JOB_DURATION)["task", "nightly"].exemplars
    assert [found.trace_id for found in exemplars if found] == [f"{unit.trace_id:032x}"]


class Pool:
    """As psycopg's."""

    def get_stats(self):
        return {
            "pool_size": 4, "pool_available": 1, "pool_max": 10, "requests_waiting": 2, "requests_errors": 3
        }  # fmt: skip


def test_connections_and_pools_are_counted(one, monkeypatch):
    from django.db.backends.postgresql.base import DatabaseWrapper

    monkeypatch.setattr(DatabaseWrapper, "_connection_pools", {"main": Pool()})
    instruments.connects.clear()
    instruments.connects.extend([("default", False, 2_000_000), ("main", True, 300)])
    for _ in range(2):
        one.set_status(writer_status())
    assert sum(series(one, families.CONNECTION_CREATE)["default",].counts) == 1
    assert sum(series(one, families.CONNECTION_WAIT)["main",].counts) == 1
    assert series(one, families.CONNECTION_COUNT) == {("main", "used"): 3, ("main", "idle"): 1}
    assert series(one, families.CONNECTION_MAX) == {("main",): 10}
    assert series(one, families.CONNECTION_PENDING) == {("main",): 2}
    assert series(one, families.CONNECTION_TIMEOUTS) == {("main",): 3}
