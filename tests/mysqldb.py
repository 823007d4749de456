"""Choose the driver for MariaDB; imported before Django's backend, in the tests and in their processes.

MARIADB_DRIVER=mysqlclient takes the driver that Django names; it has to be compiled, with the headers of
Debian's libmariadb-dev. PyMySQL takes its place by default.
"""

import os
from typing import Any

OPTIONS: dict[str, Any] = {}
"""Of a connection, in DATABASES."""

if os.environ.get("MARIADB_DRIVER", "pymysql") == "pymysql":
    import pymysql

    pymysql.install_as_MySQLdb()
    # Without it PyMySQL reads the system's certificates for each connection: 50 ms of CPU.
    OPTIONS["ssl_disabled"] = True
