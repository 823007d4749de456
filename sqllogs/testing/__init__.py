"""Let an N+1 fail the build: assertions and budgets on the queries of a test.

Under a test runner nothing is recorded unless it is asked for here; what is
recorded stays in memory. `sqllogs.pytest_plugin` adds the fixture and options of pytest.
"""

from sqllogs.testing.enforcement import query_budget
from sqllogs.testing.log import QueryLog, assert_max_queries, assert_no_repeats, record_queries
from sqllogs.testing.query import Query, QueryGroup

__all__ = [
    "Query",
    "QueryGroup",
    "QueryLog",
    "assert_max_queries",
    "assert_no_repeats",
    "query_budget",
    "record_queries",
]
