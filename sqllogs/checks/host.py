"""System checks: is every line of the set-up in place, and does it have its effect?

They ask Django what actually happens, whatever the settings look like: its router, its URL resolver and the
classes of the middleware. Run by `manage.py check` and at the start of every command; what they find
feeds `manage.py sqllogs setup`, which prints and adds the lines.
"""

from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from django import urls
from django.conf import settings
from django.core.checks import ERROR, WARNING, CheckMessage, Error, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, DatabaseError, router
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve, reverse
from django.utils.module_loading import import_string

from sqllogs import conf
from sqllogs.context import muted
from sqllogs.storage import permissions

MIDDLEWARE = "sqllogs.middleware.SQLLogsMiddleware"
ROUTER = "sqllogs.routers.SQLLogsRouter"
URLS = "sqllogs.urls"

FILES = {
    "SETTINGS_MODULE": "the settings",
    "ROOT_URLCONF": "the root URLconf",
    "ASGI_APPLICATION": "the module of ASGI_APPLICATION",
}
"""What people call the file that a setting leads to."""


class Gap(CheckMessage):
    """Lines that are missing at the end of a file; they fit whatever the file has before."""

    def __init__(self, level: int, says: str, *, id: str, file: str, lines: str) -> None:
        self.file = file
        """The setting that leads to it."""
        self.lines = lines
        by_hand = f"By hand, add to {FILES[file]}, at the end:\n{lines}"
        super().__init__(level, says, hint=f"`manage.py sqllogs setup --write` adds this. {by_hand}", id=id)


@register("sqllogs", deploy=True)
def lifespan(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Warn of an ASGI application whose last half second of records is lost at each restart."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path:
        return []
    try:
        application = import_string(path)
    except Exception:  # Django reports it itself
        return []
    if getattr(application, "flushes_sqllogs", False):
        return []
    name = path.rpartition(".")[2]
    return [
        Gap(
            WARNING,
            "The ASGI application does not flush the SQL log when its server stops.",
            id="sqllogs.W003",
            file="ASGI_APPLICATION",
            lines=f"from sqllogs.asgi import flush_at_shutdown\n{name} = flush_at_shutdown({name})",
        )
    ]


@register(Tags.database)
def missing_permissions(
    app_configs: Any, databases: Collection[str] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of permissions that cannot be granted, where the command lets a database be asked."""
    alias = permissions.users_database()
    if alias is None or alias not in (databases or ()):
        return []
    try:
        missing = permissions.missing(alias)
    except DatabaseError:  # the command reports it itself
        return []
    if not missing:
        return []
    return [
        Warning(
            f"Nobody but superusers can read the SQL log: the database {alias!r} does not have the "
            f"permissions {', '.join(missing)}.",
            hint=f"Run `manage.py migrate --database {conf.load().database}`, which creates them.",
            id="sqllogs.W011",
        )
    ]


@register(Tags.database)
def warn_of_projects_without_a_name(
    app_configs: Any, databases: Collection[str] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of two projects in one log that have no name, if the command checks its database."""
    from sqllogs.models import Process
    from sqllogs.storage.events import current_service

    given = conf.load()
    if given.database not in (databases or ()) or current_service(given):
        return []
    nameless = Process.objects.using(given.database).filter(service=None).exclude(urlconf=None)
    try:
        with muted():
            found = set(nameless.values_list("urlconf", flat=True).distinct())
    except DatabaseError:  # not migrated yet
        return []
    others = found - {getattr(settings, "ROOT_URLCONF", None)}
    if not others:
        return []
    return [
        Warning(
            f"Projects with other URLs write to this SQL log: {', '.join(sorted(map(str, others)))}. "
            "Views of the same name are counted together.",
            hint="Give each project a name: SQLLOGS['SERVICE'], or the variable OTEL_SERVICE_NAME.",
            id="sqllogs.W051",
        )
    ]


@register("sqllogs")
def set_up(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return what each of the small checks below has found."""
    return [message for part in CHECKS for message in part()]


def check_database() -> Iterator[CheckMessage]:
    alias = conf.load().database
    if alias not in settings.DATABASES:
        before, name = _new_file()
        database = f'{{"ENGINE": "django.db.backends.sqlite3", "NAME": {name}}}'
        yield Gap(
            ERROR,
            f"DATABASES has no {alias!r}, where the SQL log is kept. When it has, run "
            f"`manage.py migrate --database {alias}`.",
            id="sqllogs.E003",
            file="SETTINGS_MODULE",
            lines=f'{before}DATABASES["{alias}"] = {database}',
        )


def _new_file() -> tuple[str, str]:
    """Return an expression for the store's file, and what must stand before it."""
    folder = getattr(settings, "BASE_DIR", None)
    if isinstance(folder, Path):
        return "", 'BASE_DIR / "sqllogs.sqlite3"'
    if isinstance(folder, str):  # as projects made before Django 3.1 have it
        return "", 'BASE_DIR + "/sqllogs.sqlite3"'
    return "from pathlib import Path\n", 'Path(__file__).resolve().parent / "sqllogs.sqlite3"'


def check_router() -> Iterator[CheckMessage]:
    from sqllogs.models import SQLLog

    ring = conf.load().database
    # By globals(), because the project may have routers in one environment only. Ours is first: the first
    # that answers decides, and ours answers for no model but its own.
    lines = f'DATABASE_ROUTERS = ["{ROUTER}", *globals().get("DATABASE_ROUTERS", [])]'
    reads, writes = router.db_for_read(SQLLog), router.db_for_write(SQLLog)
    may_migrate = router.allow_migrate_model(ring, SQLLog)
    if (reads, writes) != (ring, ring) or not may_migrate:
        may = "may" if may_migrate else "may not"
        yield Gap(
            ERROR,
            f"The database routers do not keep the SQL log in {ring!r}: it is read from {reads!r} and "
            f"written to {writes!r}, and `migrate` {may} create its tables in {ring!r}.",
            id="sqllogs.E004",
            file="SETTINGS_MODULE",
            lines=lines,
        )
        return
    others = [alias for alias in settings.DATABASES if alias != ring]
    if twice := [alias for alias in others if router.allow_migrate_model(alias, SQLLog)]:
        if ring == DEFAULT_DB_ALIAS:
            return  # without a router Django migrates everything everywhere
        yield Gap(
            WARNING,
            f"`migrate` makes the tables of the SQL log in {', '.join(twice)} too: another database router "
            "answers first.",
            id="sqllogs.W012",
            file="SETTINGS_MODULE",
            lines=lines,
        )


def check_middleware() -> Iterator[CheckMessage]:
    # A warning only: whether a middleware function calls ours cannot be seen.
    if MIDDLEWARE not in settings.MIDDLEWARE and not any(map(_is_middleware, settings.MIDDLEWARE)):
        rest = ", *MIDDLEWARE" if settings.MIDDLEWARE else ""
        yield Gap(
            WARNING,
            "Requests get no trace id and no route: SQLLogsMiddleware is not in MIDDLEWARE. Silence this "
            "warning if a middleware function of yours calls it.",
            id="sqllogs.W010",
            file="SETTINGS_MODULE",
            lines=f'MIDDLEWARE = ["{MIDDLEWARE}"{rest}]',
        )


def _is_middleware(path: str) -> bool:
    try:
        found = import_string(path)
    except Exception:  # Django reports it itself
        return False
    return isinstance(found, type) and issubclass(found, import_string(MIDDLEWARE))


def check_urls() -> Iterator[CheckMessage]:
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    try:
        reverse("sqllogs:list")
    except NoReverseMatch:
        yield Gap(
            ERROR,
            "The SQL log cannot be read: its URLs are not included.",
            id="sqllogs.E006",
            file="ROOT_URLCONF",
            lines=_url_lines(),
        )
        return
    if other := _other_answer():
        yield Error(
            f"The SQL log cannot be read: {other}.",
            hint=f'Move path("sql-logs/", include("{URLS}")) to the front of urlpatterns.',
            id="sqllogs.E010",
        )


def _url_lines() -> str:
    """Return the include, in front: a catch-all at the end of the project's patterns would answer first."""
    names = vars(import_module(settings.ROOT_URLCONF)) if isinstance(settings.ROOT_URLCONF, str) else {}
    missing = [name for name in ("include", "path") if names.get(name) is not getattr(urls, name)]
    before = f"from django.urls import {', '.join(missing)}\n" if missing else ""
    return f'{before}urlpatterns = [path("sql-logs/", include("{URLS}")), *urlpatterns]'


def _other_answer() -> str | None:
    """Name an address of ours that another pattern answers; None where all reach our views."""
    for pattern in import_string(f"{URLS}.urlpatterns"):
        url = reverse(f"sqllogs:{pattern.name}", args=["0"] * len(pattern.pattern.converters))
        try:
            match = resolve("/" + url.removeprefix(get_script_prefix()))
        except Resolver404:
            return f"{url} is not found"
        if match.app_names[-1:] != ["sqllogs"] or match.url_name != pattern.name:
            return f"{url} is answered by {match.view_name}, whose pattern {match.route!r} comes first"
    return None


CHECKS = (check_database, check_router, check_middleware, check_urls)
