"""Define the metrics: names, labels, buckets. docs/reference/metrics.md lists them.

Filled by `sqllogs.metrics.sink` in the writer's thread, read by `sqllogs.metrics.collector`.
"""

from sqllogs.metrics.values import Family

# From 0.1 ms on: the 10 ms with which django-prometheus begins are longer than most statements.
SQL_BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
DB_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Those of OpenTelemetry's conventions; each is one of SQL_BUCKETS_S too."""
HTTP_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Those of OpenTelemetry's conventions."""
# A percentile in the last bucket is its lower limit: 10 s where requests took 28 s.
REQUEST_BUCKETS_S = (*HTTP_BUCKETS_S, 30.0, 60.0)
COUNT_BUCKETS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
JOB_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

QUERY_DURATION = Family(
    name="sqllogs_query_duration_seconds",
    kind="histogram",
    help="Duration of SQL statements.",
    labels=("alias", "operation"),
    fixed=1,
    buckets=SQL_BUCKETS_S,
)
QUERY_ERRORS = Family(
    name="sqllogs_query_errors",
    kind="counter",
    help="SQL statements that failed, by class of exception and class of SQLSTATE.",
    # The class is the first two characters of a SQLSTATE: the codes would be hundreds of series.
    labels=("alias", "error", "sqlstate_class"),
    fixed=1,
)
QUERY_ROWS = Family(
    name="sqllogs_query_rows",
    kind="counter",
    help="Rows that SQL statements returned or changed, where the driver reports it.",
    labels=("alias", "operation"),
    fixed=1,
)
DB_OPERATION_DURATION = Family(
    name="db_client_operation_duration_seconds",
    kind="histogram",
    help="Duration of SQL statements, by OpenTelemetry's conventions.",
    labels=("db_system_name", "db_namespace", "db_response_status_code", "error_type"),
    fixed=2,
    buckets=DB_BUCKETS_S,
)
CONNECTION_CREATE = Family(
    name="db_client_connection_create_time_seconds",
    kind="histogram",
    help="Time to open a connection, by alias; of at most 1,000 connections between two flushes.",
    labels=("db_client_connection_pool_name",),
    buckets=DB_BUCKETS_S,
)
CONNECTION_WAIT = Family(
    name="db_client_connection_wait_time_seconds",
    kind="histogram",
    help="Time to get a connection from a pool; of at most 1,000 connections between two flushes.",
    labels=("db_client_connection_pool_name",),
    buckets=DB_BUCKETS_S,
)
CONNECTION_COUNT = Family(
    name="db_client_connection_count",
    kind="sum",
    help="Connections of psycopg's pools, used or idle.",
    labels=("db_client_connection_pool_name", "db_client_connection_state"),
)
CONNECTION_MAX = Family(
    name="db_client_connection_max",
    kind="sum",
    help="Maximum number of connections of psycopg's pools.",
    labels=("db_client_connection_pool_name",),
)
CONNECTION_PENDING = Family(
    name="db_client_connection_pending_requests",
    kind="sum",
    help="Threads and tasks that wait for a connection of a pool.",
    labels=("db_client_connection_pool_name",),
)
CONNECTION_TIMEOUTS = Family(
    name="db_client_connection_timeouts",
    kind="counter",
    help="Attempts to get a connection from a pool that failed.",
    labels=("db_client_connection_pool_name",),
)
REQUEST_DURATION = Family(
    name="sqllogs_request_duration_seconds",
    kind="histogram",
    help="Duration of requests, until the last byte of a streamed response.",
    labels=("view", "route"),
    buckets=REQUEST_BUCKETS_S,
)
REQUEST_ERRORS = Family(
    name="sqllogs_request_errors",
    kind="counter",
    help="Requests that failed, by class of exception, or status if none is known.",
    labels=("view", "route", "error"),
    fixed=1,
)
HTTP_DURATION = Family(
    name="http_server_request_duration_seconds",
    kind="histogram",
    help="Duration of requests, by OpenTelemetry's conventions.",
    labels=("http_request_method", "url_scheme", "http_response_status_code", "error_type", "http_route"),
    fixed=3,
    buckets=HTTP_BUCKETS_S,
)
REQUEST_QUERIES = Family(
    name="sqllogs_request_queries",
    kind="histogram",
    help="SQL statements per request, without requests that sent none.",
    labels=("view", "route"),
    buckets=COUNT_BUCKETS,
)
REQUEST_SQL = Family(
    name="sqllogs_request_sql_seconds",
    kind="histogram",
    help="Time that a request spent in SQL.",
    labels=("view", "route"),
    buckets=SQL_BUCKETS_S,
)
REQUESTS_REPEATING = Family(
    name="sqllogs_requests_repeating",
    kind="counter",
    help="Requests with an N+1: one line of code ran the same statement repeatedly.",
    labels=("view", "route"),
)
TRANSACTIONS_IDLE = Family(
    name="sqllogs_transactions_idle",
    kind="counter",
    help="Requests, commands and tasks with a transaction that was open for a second without a statement.",
    labels=("kind", "name"),
    fixed=1,
)
JOBS = Family(
    name="sqllogs_jobs",
    kind="counter",
    help="Management commands, tasks and other units of work that have ended.",
    labels=("kind", "name", "outcome"),
    fixed=1,
)
JOB_DURATION = Family(
    name="sqllogs_job_duration_seconds",
    kind="histogram",
    help="Duration of management commands, tasks and other units of work.",
    labels=("kind", "name"),
    fixed=1,
    buckets=JOB_BUCKETS_S,
)
JOB_QUERIES = Family(
    name="sqllogs_job_queries",
    kind="counter",
    help="SQL statements of management commands, tasks and other units of work.",
    labels=("kind", "name"),
    fixed=1,
)
JOB_SQL = Family(
    name="sqllogs_job_sql_seconds",
    kind="counter",
    help="Time that management commands, tasks and other units of work spent in SQL.",
    labels=("kind", "name"),
    fixed=1,
)
CAPTURED = Family(name="sqllogs_captured", kind="counter", help="SQL statements captured.")
STORED = Family(name="sqllogs_stored", kind="counter", help="Records written to the ring.")
SAMPLED_OUT = Family(
    name="sqllogs_sampled_out",
    kind="counter",
    help="Records only counted in the statistics, see SAMPLE.",
)
DROPPED = Family(
    name="sqllogs_dropped", kind="counter", help="Records dropped, by reason.", labels=("reason",)
)
UNITS_DROPPED = Family(
    name="sqllogs_units_dropped",
    kind="counter",
    help="Requests and other units of work whose row is missing or was not completed.",
)
DROP_REASONS = ("buffer_rows", "buffer_bytes", "uncounted", "rejected")
EXPORTED = Family(
    name="sqllogs_exported",
    kind="counter",
    help="Records for OTLP, by outcome.",
    labels=("outcome",),
)
# Without `queued`, which also decreases.
EXPORT_OUTCOMES = ("sent", "left_out", "queue_full", "refused", "unsent")
FAULTS = Family(
    name="sqllogs_faults",
    kind="counter",
    help="Internal faults of the SQL log, by component.",
    labels=("place",),
)
QUEUE_ROWS = Family(name="sqllogs_queue_rows", kind="sum", help="Records waiting to be written.")
QUEUE_BYTES = Family(
    name="sqllogs_queue_bytes", kind="sum", help="Upper bound of the memory of waiting records."
)
LAG = Family(name="sqllogs_lag_seconds", kind="max", help="Age of the oldest waiting record in any process.")
FLUSH = Family(
    name="sqllogs_flush_seconds",
    kind="histogram",
    help="Time to resolve and write the records of one flush.",
    buckets=SQL_BUCKETS_S,
)

OWN = (
    DB_OPERATION_DURATION, CONNECTION_CREATE, CONNECTION_WAIT, CONNECTION_COUNT, CONNECTION_MAX,
    CONNECTION_PENDING, CONNECTION_TIMEOUTS, REQUEST_DURATION, REQUEST_ERRORS, HTTP_DURATION,
    QUERY_DURATION, QUERY_ERRORS, QUERY_ROWS, REQUEST_QUERIES, REQUEST_SQL, REQUESTS_REPEATING,
    TRANSACTIONS_IDLE, JOBS, JOB_DURATION, JOB_QUERIES, JOB_SQL,
    CAPTURED, STORED, SAMPLED_OUT, DROPPED, UNITS_DROPPED, EXPORTED, FAULTS,
    QUEUE_ROWS, QUEUE_BYTES, LAG, FLUSH,
)  # fmt: skip

# Names of django-prometheus, because existing dashboards use them. Its database engines are not needed:
# they cost the application 27 us per query.
DB_EXECUTE = Family(
    name="django_db_execute",
    kind="counter",
    help="Executed statements; an executemany counts once.",
    labels=("alias", "vendor"),
)
DB_EXECUTE_MANY = Family(
    name="django_db_execute_many",
    kind="counter",
    help="Calls of executemany.",
    labels=("alias", "vendor"),
)
DB_ERRORS = Family(
    name="django_db_errors",
    kind="counter",
    help="Errors of executed statements, by class of exception.",
    labels=("alias", "vendor", "type"),
    fixed=2,
)
DB_ERROR_TYPES = (
    "DatabaseError", "DataError", "IntegrityError", "InterfaceError", "InternalError", "NotSupportedError",
    "OperationalError", "ProgrammingError",
)  # fmt: skip
DB_DURATION = Family(
    name="django_db_query_duration_seconds",
    kind="histogram",
    help="Duration of statements.",
    labels=("alias", "vendor"),
    buckets=SQL_BUCKETS_S,
)
DB_CONNECTIONS = Family(
    name="django_db_new_connections",
    kind="counter",
    help="Attempts to connect.",
    labels=("alias", "vendor"),
)
DB_CONNECTION_ERRORS = Family(
    name="django_db_new_connection_errors",
    kind="counter",
    help="Attempts to connect that failed.",
    labels=("alias", "vendor"),
)
DJANGO_DB = (
    DB_EXECUTE, DB_EXECUTE_MANY, DB_ERRORS, DB_DURATION, DB_CONNECTIONS, DB_CONNECTION_ERRORS,
)  # fmt: skip
