"""Choose the driver for MariaDB; imported before Django's backend, in the tests and in their processes.

MARIADB_DRIVER=mysqlclient takes the driver that Django names; it has to be compiled, with the headers of
Debian's libmariadb-dev. PyMySQL takes its place by default.
"""

import os

if os.environ.get("MARIADB_DRIVER", "pymysql") == "pymysql":
    import pymysql

    pymysql.install_as_MySQLdb()
