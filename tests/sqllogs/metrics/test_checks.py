"""`manage.py check` reports metrics that are not served, or that anyone can read."""

import pytest
from django.test import override_settings

from sqllogs.metrics import multiprocess
from tests.sqllogs.test_checks import found

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def test_port_without_a_shared_folder_is_reported(monkeypatch):
    monkeypatch.setattr(multiprocess, "slots", None)
    with override_settings(SQLLOGS={"METRICS_PORT": 9110}):
        assert "share(" in found()["sqllogs.W030"].hint


def test_metrics_that_anyone_can_read_are_reported():
    with override_settings(ROOT_URLCONF="django_prometheus.urls"):
        assert "MetricsView" in found()["sqllogs.W031"].hint
