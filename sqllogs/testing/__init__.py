"""Fail the build on an N+1: assertions and budgets for the queries of a test.

Under a test runner nothing is recorded unless a test asks for it, and records stay in memory.
`sqllogs.pytest_plugin` adds the pytest fixture and options.
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
