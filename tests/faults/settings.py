"""Settings of the sites and programs that the faults happen to: those of the demo site, in production mode.

SQLLOGS_CHANGES holds changes of SQLLOGS as JSON, SQLLOGS_STORE the store's entry of DATABASES.
"""

import json
import os

from core.settings import *  # noqa: F403
from core.settings import DATABASES, MIDDLEWARE, SQLLOGS

SQLLOGS |= json.loads(os.environ.get("SQLLOGS_CHANGES", "{}"))
TIME_ZONE = os.environ.get("SITE_TIME_ZONE", "UTC")
USE_TZ = os.environ.get("WITH_TZ", "1") == "1"
if store := os.environ.get("SQLLOGS_STORE"):
    DATABASES["sqllogs"] = json.loads(store)
    if "mysql" in DATABASES["sqllogs"]["ENGINE"]:
        import tests.mysqldb  # noqa: F401  (before Django's backend is loaded)
if SQLLOGS.get("ENABLED") is False:  # the same site without the app's part in a request
    MIDDLEWARE = [name for name in MIDDLEWARE if name != "sqllogs.middleware.SQLLogsMiddleware"]
