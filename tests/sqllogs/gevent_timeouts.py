"""A process with gevent whose queries run into time limits; it prints how many were set and reached it."""

from gevent import monkey

monkey.patch_all()

import random  # noqa: E402
import sys  # noqa: E402

import django  # noqa: E402
import gevent  # noqa: E402
from django.conf import settings  # noqa: E402

TIMEOUTS = 150


class TookTooLong(Exception):
    pass


def wait_first(execute, *args):
    """Let other greenlets run, as a driver that waits for its server does."""
    gevent.sleep(0)
    return execute(*args)


def main(store):
    sqlite = "django.db.backends.sqlite3"
    settings.configure(
        INSTALLED_APPS=["sqllogs"],
        DATABASES={
            "default": {"ENGINE": sqlite, "NAME": ":memory:"},
            "sqllogs": {"ENGINE": sqlite, "NAME": store},
        },
        DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
        SQLLOGS={"ENABLED": True},
        USE_TZ=True,
        SECRET_KEY="of a test",
    )
    django.setup()
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", database="sqllogs", verbosity=0)
    reached = 0
    random.seed(1)
    for number in range(TIMEOUTS):
        error = (None, TookTooLong, ValueError)[number % 3]
        timeout = gevent.Timeout(random.uniform(0.0001, 0.005), error)
        try:
            with timeout, connection.execute_wrapper(wait_first):
                while timeout.pending:
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT 1")
                        cursor.fetchall()
        except (gevent.Timeout, TookTooLong, ValueError):
            reached += 1
    print(TIMEOUTS, reached)


main(sys.argv[1])
