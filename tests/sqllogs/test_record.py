"""The places of a captured query's fields have names."""

import pytest

from sqllogs import record
from sqllogs.record import Captured


@pytest.mark.parametrize("name", ["execute_ns", "sql", "vendor", "unit", "span", "code", "lasti", "fetch"])
def test_place_of_a_field_is_the_one_it_has_in_a_captured_query(name):
    assert getattr(record, name.upper()) == Captured._fields.index(name)
