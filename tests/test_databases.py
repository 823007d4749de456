"""Tests of models have a test database for each alias, and go to it by the router."""

import pytest
from django.contrib.auth.models import User
from django.db import connections

from sqllogs.models import SQLLog


@pytest.mark.django_db(databases=["default", "sqllogs"])
@pytest.mark.parametrize(("model", "alias"), [(User, "default"), (SQLLog, "sqllogs")])
def test_each_alias_has_a_test_database(model, alias):
    assert model.objects.all().db == alias
    assert not model.objects.exists()
    assert "memory" in str(connections[alias].settings_dict["NAME"])
