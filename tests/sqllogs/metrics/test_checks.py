"""What keeps metrics from being served, or serves them to everybody, is told by `manage.py check`."""

import pytest
from django.test import override_settings

from sqllogs.metrics import multiprocess
from tests.sqllogs.test_checks import found

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def test_port_without_a_shared_folder_is_told(monkeypatch):
    monkeypatch.setattr(multiprocess, "slots", None)
    with override_settings(SQLLOGS={"METRICS_PORT": 9110}):
        assert "share(" in found()["sqllogs.W030"].hint


def test_metrics_open_to_everybody_are_told():
    with override_settings(ROOT_URLCONF="django_prometheus.urls"):
        assert "MetricsView" in found()["sqllogs.W031"].hint
