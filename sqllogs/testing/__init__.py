"""Fail the build on an N+1: assertions and budgets for the queries of a test.

Under a test runner queries are recorded only where a test asks for it, and stay in memory.
`sqllogs.pytest_plugin` adds the pytest fixture, marker and options.
"""

from sqllogs.testing.budget import query_budget
from sqllogs.testing.log import QueryLog, assert_max_queries, assert_no_repeats, record_queries
from sqllogs.testing.queries import Query, QueryGroup

__all__ = [
    "Query",
    "QueryGroup",
    "QueryLog",
    "assert_max_queries",
    "assert_no_repeats",
    "query_budget",
    "record_queries",
]
