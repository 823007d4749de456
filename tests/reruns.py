"""A test that is run once more, as `--reruns` does, gets new instances of what its module shares.

Otherwise it would judge the same run of a server again, of which a busy machine has made something odd.
"""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if getattr(item, "execution_count", 1) == 1:
        return
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        for definition in definitions:
            if definition.scope == "module":
                definition.finish(item._request)
