"""System checks of the host project: whether it has all lines that the app needs, and whether they work.

They use Django's router, URL resolver and middleware classes to see what really happens, instead of comparing
settings. Run by `manage.py check` and at the start of most commands, in the command's thread. The messages
feed `manage.py sqllogs setup`, which prints or adds the missing lines.
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
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs import conf, routers
from sqllogs.context import muted
from sqllogs.storage import database

MIDDLEWARE = "sqllogs.middleware.SQLLogsMiddleware"
ROUTER = "sqllogs.routers.SQLLogsRouter"
URLS = "sqllogs.urls"

FILES = {
    "SETTINGS_MODULE": gettext_lazy("the settings"),
    "ROOT_URLCONF": gettext_lazy("the root URLconf"),
    "ASGI_APPLICATION": gettext_lazy("the module of ASGI_APPLICATION"),
}
"""Description of the file whose module a setting names."""


class MissingLines(CheckMessage):
    """Lines to append to a file; they work whatever the file contains."""

    def __init__(self, level: int, message: str, *, id: str, file: str, lines: str) -> None:
        self.file = file
        """The setting that names its module."""
        self.file_description = FILES[file]
        self.lines = lines
        hint = _(
            "`manage.py sqllogs setup --write` adds the missing lines. To add them by hand, append to "
            "%(file)s:\n%(lines)s"
        )
        message = message.rstrip()  # a sentence at its end may be empty
        super().__init__(level, message, hint=hint % {"file": self.file_description, "lines": lines}, id=id)


# uvicorn, for example, never runs atexit handlers.
@register("sqllogs", deploy=True)
def lifespan(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Warn if the ASGI application would lose the last half second of records at each restart."""
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
        MissingLines(
            WARNING,
            _("The ASGI application does not flush the SQL log when its server stops."),
            id="sqllogs.W003",
            file="ASGI_APPLICATION",
            lines=f"from sqllogs.asgi import flush_at_shutdown\n{name} = flush_at_shutdown({name})",
        )
    ]


@register(Tags.database)
def missing_permissions(
    app_configs: Any, databases: Collection[str] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn if the permissions do not exist; runs in commands that allow checks to query databases."""
    alias = routers.users_database()
    if alias is None or alias not in (databases or ()):
        return []
    try:
        missing = routers.missing_permissions(alias)
    except DatabaseError:  # the command itself reports it
        return []
    if not missing:
        return []
    return [
        Warning(
            _(
                "Only superusers can read the SQL log: the database %(alias)r does not have the permissions "
                "%(names)s."
            )
            % {"alias": alias, "names": ", ".join(missing)},
            hint=_("Run `manage.py migrate --database %(alias)s`, which creates them.")
            % {"alias": conf.load().database},
            id="sqllogs.W011",
        )
    ]


@register(Tags.database)
def warn_of_projects_without_a_name(
    app_configs: Any, databases: Collection[str] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn if two projects without names share a log; runs in commands that allow checks to query it."""
    from sqllogs.models import Process
    from sqllogs.storage.events import current_service

    given = conf.load()
    if given.database not in (databases or ()) or current_service(given):
        return []
    nameless = Process.objects.using(given.database).filter(service=None).exclude(urlconf=None)
    try:
        with muted():
            urlconfs = set(nameless.values_list("urlconf", flat=True).distinct())
    except DatabaseError:  # not migrated yet
        return []
    others = urlconfs - {getattr(settings, "ROOT_URLCONF", None)}
    if not others:
        return []
    return [
        Warning(
            _(
                "Other projects write to this SQL log, with the URLconfs %(names)s. Views with the same name "
                "are counted together."
            )
            % {"names": ", ".join(sorted(map(str, others)))},
            hint=_(
                "Give each project a name, with SQLLOGS['SERVICE'] or the environment variable "
                "OTEL_SERVICE_NAME."
            ),
            id="sqllogs.W051",
        )
    ]


@register("sqllogs")
def set_up(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return the messages of all checks below."""
    return [message for check in CHECKS for message in check()]


def check_database() -> Iterator[CheckMessage]:
    alias = conf.load().database
    if alias not in settings.DATABASES:
        import_line, path = _new_file()
        entry = f'{{"ENGINE": "django.db.backends.sqlite3", "NAME": {path}}}'
        yield MissingLines(
            ERROR,
            _(
                "DATABASES has no %(alias)r for the SQL log. After adding it, run `manage.py migrate "
                "--database %(name)s`."
            )
            % {"alias": alias, "name": alias},
            id="sqllogs.E003",
            file="SETTINGS_MODULE",
            lines=f'{import_line}DATABASES["{alias}"] = {entry}',
        )


def _new_file() -> tuple[str, str]:
    """Return an expression for the path of the store's file, after the import that it needs or ""."""
    folder = getattr(settings, "BASE_DIR", None)
    # Settings that extend those of an installed package have its BASE_DIR. A file there would be lost with
    # the next virtual environment.
    if isinstance(folder, str | Path) and not database.is_installed(Path(folder)):
        # Text, as in projects created before Django 3.1.
        rest = '+ "/sqllogs.sqlite3"' if isinstance(folder, str) else '/ "sqllogs.sqlite3"'
        return "", f"BASE_DIR {rest}"
    return "from pathlib import Path\n", 'Path(__file__).resolve().parent / "sqllogs.sqlite3"'


def check_router() -> Iterator[CheckMessage]:
    from sqllogs.models import SQLLog

    store = conf.load().database
    # globals(), because the setting may exist in some environments only. Ours comes first, because the first
    # router that answers decides, and ours answers only for its own models.
    lines = f'DATABASE_ROUTERS = ["{ROUTER}", *globals().get("DATABASE_ROUTERS", [])]'
    reads, writes = router.db_for_read(SQLLog), router.db_for_write(SQLLog)
    may_migrate = router.allow_migrate_model(store, SQLLog)
    if (reads, writes) != (store, store) or not may_migrate:
        # A separate sentence, because in other languages "not" changes more than one word.
        tables = "" if may_migrate else _("`migrate` may not create its tables in %(alias)r.")
        yield MissingLines(
            ERROR,
            _(
                "The database routers do not keep the SQL log in %(alias)r: it is read from %(reads)r and "
                "written to %(writes)r. %(tables)s"
            )
            % {"alias": store, "reads": reads, "writes": writes, "tables": tables % {"alias": store}},
            id="sqllogs.E004",
            file="SETTINGS_MODULE",
            lines=lines,
        )
        return
    if store == DEFAULT_DB_ALIAS:
        return  # without a router Django migrates everything everywhere
    others = [alias for alias in settings.DATABASES if alias != store]
    if twice := [alias for alias in others if router.allow_migrate_model(alias, SQLLog)]:
        yield MissingLines(
            WARNING,
            _(
                "`migrate` creates the tables of the SQL log in %(aliases)s too, because another database "
                "router answers first."
            )
            % {"aliases": ", ".join(twice)},
            id="sqllogs.W012",
            file="SETTINGS_MODULE",
            lines=lines,
        )


def check_middleware() -> Iterator[CheckMessage]:
    # Not an error, because a middleware function may call ours, which a check cannot see.
    if MIDDLEWARE not in settings.MIDDLEWARE and not any(map(_is_middleware, settings.MIDDLEWARE)):
        rest = ", *MIDDLEWARE" if settings.MIDDLEWARE else ""
        yield MissingLines(
            WARNING,
            _(
                "Requests have no trace id and no route, because SQLLogsMiddleware is not in MIDDLEWARE. "
                "Silence this warning if a middleware function of yours calls it."
            ),
            id="sqllogs.W010",
            file="SETTINGS_MODULE",
            lines=f'MIDDLEWARE = ["{MIDDLEWARE}"{rest}]',
        )


def _is_middleware(path: str) -> bool:
    try:
        middleware = import_string(path)
    except Exception:  # Django reports it itself
        return False
    return isinstance(middleware, type) and issubclass(middleware, import_string(MIDDLEWARE))


def check_urls() -> Iterator[CheckMessage]:
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    try:
        reverse("sqllogs:list")
    except NoReverseMatch:
        yield MissingLines(
            ERROR,
            _("The SQL log cannot be read, because its URLs are not included."),
            id="sqllogs.E006",
            file="ROOT_URLCONF",
            lines=_url_lines(),
        )
        return
    if reason := _find_shadowed_url():
        yield Error(
            _("The SQL log cannot be read: %(reason)s.") % {"reason": reason},
            hint=_('Move path("sql-logs/", include("%(urls)s")) to the front of urlpatterns.')
            % {"urls": URLS},
            id="sqllogs.E010",
        )


def _url_lines() -> str:
    """Return lines that put the include first, because a catch-all pattern would answer before the last."""
    names = vars(import_module(settings.ROOT_URLCONF)) if isinstance(settings.ROOT_URLCONF, str) else {}
    # By identity: the project may use another function of that name.
    missing = [name for name in ("include", "path") if names.get(name) is not getattr(urls, name)]
    import_line = f"from django.urls import {', '.join(missing)}\n" if missing else ""
    return f'{import_line}urlpatterns = [path("sql-logs/", include("{URLS}")), *urlpatterns]'


def _find_shadowed_url() -> str | None:
    """Return which URL of ours another pattern answers; None if all reach our views."""
    for pattern in import_string(f"{URLS}.urlpatterns"):
        # "0" matches all our patterns.
        url = reverse(f"sqllogs:{pattern.name}", args=["0"] * len(pattern.pattern.converters))
        try:
            match = resolve("/" + url.removeprefix(get_script_prefix()))
        except Resolver404:
            return _("%(url)s is not found") % {"url": url}
        if match.app_names[-1:] != ["sqllogs"] or match.url_name != pattern.name:
            message = _("%(url)s is answered by %(view)s, whose pattern %(route)r comes first")
            return message % {"url": url, "view": match.view_name, "route": match.route}
    return None


CHECKS = (check_database, check_router, check_middleware, check_urls)
