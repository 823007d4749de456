"""The demo site with a shop, on PostgreSQL."""

import os

from core.settings import *  # noqa: F403
from core.settings import DATABASES, INSTALLED_APPS, SQLLOGS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.incidents.shop"]
ROOT_URLCONF = "tests.incidents.shop.urls"
DATABASES["default"]["OPTIONS"] = {"options": "-c lock_timeout=300ms"}
SQLLOGS = SQLLOGS | {"FLUSH_INTERVAL_S": 0.2}
PAYMENT_URL = os.environ.get("PAYMENT_URL", "")
