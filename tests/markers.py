"""The marker `programs`, set on each test that starts servers, a browser, or stops the database.

Found by the fixtures that a test asks for, so that no test can forget it. `-m "not programs"`
leaves these tests out: tests/matrix.py does on most corners, since they take a third of the time.
"""

import pytest

FIXTURES = frozenset({"site", "chromium", "fragile_postgresql"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.programs)
