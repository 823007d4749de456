"""The settings keep the demo quick to start."""

import sys

from debug_toolbar.panels.sql import tracking


def test_toolbar_does_not_search_for_postgis():
    assert tracking._PostGISAdapter is None
    assert "django.contrib.gis" not in sys.modules
