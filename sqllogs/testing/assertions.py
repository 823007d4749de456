"""Blocks that fail when they query too much.

They run in the test's thread, around the code under test.
"""

from sqllogs.testing.log import REPEATS_FROM, QueryLog, Recording


def assert_max_queries(limit: int) -> Recording:
    """Fail with a list of the block's queries if there are more than `limit`."""

    def check(log: QueryLog) -> None:
        __tracebackhide__ = True
        log.assert_max_queries(limit)

    return Recording(check)


def assert_no_repeats(times: int = REPEATS_FROM) -> Recording:
    """Fail if a line of the block sends one statement `times` times or more in one unit of work."""

    def check(log: QueryLog) -> None:
        __tracebackhide__ = True
        log.assert_no_repeats(times)

    return Recording(check)
