"""The call site is the nearest line of application code, else of a library, never a launcher or Django."""

import os
import sys
import threading
from functools import partial
from types import SimpleNamespace

import asgiref
import django
import pytest
import rest_framework
from django.core.handlers import base, exception
from django.core.paginator import Page, Paginator
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.template import base as template_base
from django.test import RequestFactory
from jinja2 import Environment, FileSystemLoader
from opentelemetry.instrumentation.dbapi import (
    DatabaseApiIntegration,
    get_traced_connection_proxy,
    get_traced_cursor_proxy,
)

import sqllogs
from sqllogs.capture import Captured, call_site
from sqllogs.capture import wrapper as capture_wrapper
from sqllogs.capture.call_site import CallSites, FrameFinder, Source, SourceFiles, application_paths
from sqllogs.conf import Conf
from sqllogs.models import SQLLog
from sqllogs.storage.database import close_connection

VENV = "/srv/venv/lib/python3.12/site-packages"
WAGTAIL = f"{VENV}/wagtail/models/pages.py"
SHOP = "/srv/shop/views.py"
DRF = f"{VENV}/rest_framework/pagination.py"
JINJA = f"{VENV}/jinja2/nodes.py"
SEKIZAI = f"{VENV}/sekizai/templatetags/sekizai_tags.py"
NODES = template_base.__file__
BIN = os.path.dirname(sys.executable)
GUNICORN = f"{BIN}/gunicorn"


def test_name_has_the_length_of_its_column():
    assert SQLLog._meta.get_field("call_site").max_length == call_site.MAX_CHARACTERS


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (__file__, Source.APPLICATION),
        (SHOP, Source.APPLICATION),
        (sqllogs.__path__[0] + "_extra/a.py", Source.APPLICATION),
        (rest_framework.__file__, Source.LIBRARY),
        (WAGTAIL, Source.LIBRARY),  # installed in another environment
        ("/usr/lib/python3/dist-packages/yaml/reader.py", Source.LIBRARY),  # by Debian
        (os.__file__, Source.IGNORED),
        (django.__file__, Source.IGNORED),
        (asgiref.__file__, Source.IGNORED),
        (sqllogs.__file__, Source.IGNORED),
        ("<frozen importlib._bootstrap>", Source.IGNORED),
        ("<string>", Source.IGNORED),  # exec
        (f"{BIN}/gunicorn", Source.IGNORED),
        ("/srv/shop/manage.py", Source.IGNORED),
        ("/srv/shop/__main__.py", Source.IGNORED),
        ("/srv/shop/bin/import_feeds", Source.APPLICATION),  # a script of the project
        ("/srv/shop/templates/a.html", Source.TEMPLATE),  # compiled by Jinja2
        (f"{VENV}/package/templates/a.html", Source.LIBRARY),
        (base.__file__, Source.BOUNDARY),
        (f"{VENV}/sentry_sdk/integrations/django/views.py", Source.IGNORED),  # installed elsewhere
        (f"{VENV}/opentelemetry/instrumentation/dbapi/__init__.py", Source.IGNORED),
        (f"{VENV}/silk_themes/views.py", Source.LIBRARY),  # another package
        ("/srv/shop/silk/views.py", Source.APPLICATION),  # a package of the project
    ],
)
def test_file_is_application_library_or_neither(path, source):
    assert SourceFiles().source(path) is source


def test_setting_says_what_counts_as_application():
    source = SourceFiles(["rest_framework", "/srv/shop", "~/tools.py"]).source
    assert source(rest_framework.__file__) is Source.APPLICATION
    assert source(SHOP) is Source.APPLICATION
    assert source("/srv/shop_vendor/views.py") is Source.LIBRARY
    assert source(os.path.realpath(os.path.expanduser("~/tools.py"))) is Source.APPLICATION
    assert source(django.__file__) is Source.IGNORED


@pytest.mark.parametrize("name", ["no_such_package", "no_such.package", ""])
def test_package_that_cannot_be_found_has_no_path(name):
    assert application_paths(name) == []


def test_files_are_looked_at_once_and_forgotten_when_too_many():
    source = SourceFiles().source
    for _ in range(3):
        source(SHOP)
    assert source.cache_info().misses == 1
    assert source.cache_info().maxsize == call_site.FILES_MAX


def test_known_files_of_the_finder_are_bounded(monkeypatch):
    monkeypatch.setattr(call_site, "FILES_MAX", 3)
    finder = FrameFinder()
    for number in range(20):
        through(lambda: finder.find(0), *[f"{VENV}/package_{number}.py"] * 5)()
        assert len(finder._known) <= 4


def test_what_a_template_of_jinja_renders_has_its_line(tmp_path):
    (tmp_path / "base.jinja").write_text(
        "{% macro twice() %}\n\n{{ ask() }}{% endmacro %}{% block body %}{% endblock %}"
    )
    text = "{% extends 'base.jinja' %}\n{% import 'base.jinja' as base with context %}{% block body %}\n\n"
    (tmp_path / "page.jinja").write_text(text + "{{ ask() }}\n{{ base.twice() }}{% endblock %}")
    finder, found = FrameFinder(), []
    ask = through(lambda: found.append(finder.find(0)), *[f"{VENV}/package.py"] * 3)
    Environment(loader=FileSystemLoader(tmp_path)).get_template("page.jinja").render(ask=ask)
    lines = [f"{tmp_path}/page.jinja:4 VariableNode", f"{tmp_path}/base.jinja:3 VariableNode"]
    assert [rendering for _, rendering in found] == lines
    sites = [CallSites(Conf()).name(frame.f_code, frame.f_lasti) for frame, _ in found]
    assert [site.startswith(str(tmp_path)) for site in sites] == [True, True]


class Rows:
    """As a queryset, which is evaluated when it is read, without being one."""

    def __init__(self, ask):
        self.ask = ask

    def __getitem__(self, part):
        return self

    def __len__(self):
        self.ask()
        return 1

    def __iter__(self):
        self.ask()
        return iter([1])


@pytest.mark.parametrize(
    "text",
    [
        "{% for row in page %}{{ row }}{% endfor %}",
        "{% for row in page %}{{ loop.index }}{% endfor %}",
        "{% if page %}{% endif %}",
        "{{ page|length }}",
        "{% for row in rows() %}{% endfor %}",
    ],
)
def test_template_of_jinja_that_reads_a_list_is_no_expression(text, tmp_path):
    (tmp_path / "page.jinja").write_text(text)
    finder, found = FrameFinder(), []
    ask = through(lambda: found.append(finder.find(0)), *[f"{VENV}/package.py"] * 3)

    def rows():
        yield ask()

    page = Page(Rows(ask), 1, Paginator([], 1))
    Environment(loader=FileSystemLoader(tmp_path)).get_template("page.jinja").render(page=page, rows=rows)
    assert {rendering for _, rendering in found} == {f"{tmp_path}/page.jinja:1 ForNode"}


def test_code_from_a_file_of_another_kind_is_a_call_site_without_a_template():
    finder = FrameFinder()
    frame, rendering = through(lambda: finder.find(0), *[f"{VENV}/package.py"] * 3, "/srv/shop/rules.txt")()
    assert (frame.f_code.co_filename, rendering) == ("/srv/shop/rules.txt", None)


def test_callers_of_a_file_that_renders_nothing_are_looked_at_a_limited_number_of_times(monkeypatch):
    monkeypatch.setattr(call_site, "RENDERING_SEARCHES_MAX", 3)
    finder = FrameFinder()
    looked_at = []
    around = finder._around
    monkeypatch.setattr(finder, "_around", lambda *given: looked_at.append(given) or around(*given))
    view = through(lambda: finder.find(0), f"{VENV}/package.py", SHOP)
    for _ in range(20):
        view()
    assert len(looked_at) == call_site.RENDERING_SEARCHES_MAX


def test_names_of_code_that_is_gone_are_not_given_to_new_code():
    sites = CallSites(Conf())
    names = set()
    for number in range(50):
        scope = {"sys": sys}
        exec(compile(f"def f{number}(): return sys._getframe()", f"/srv/f{number}.py", "exec"), scope)
        frame = scope[f"f{number}"]()
        names.add(sites.name(frame.f_code, frame.f_lasti))
        del frame, scope
    assert len(names) == 50


@pytest.fixture
def connection(django_db_blocker):
    connection = DatabaseWrapper({**connections["default"].settings_dict, "NAME": ":memory:"})
    with django_db_blocker.unblock():
        yield connection
    close_connection(connection)


def toolbar_cursor(connection):
    from debug_toolbar.panels.sql.tracking import wrap_cursor

    wrap_cursor(connection)
    connection._djdt_logger = SimpleNamespace(record=lambda **query: None)
    return connection.cursor()


def opentelemetry_cursor(connection):
    """Return a cursor that OpenTelemetry wraps on both sides: the driver's, as it does, and Django's."""
    integration = DatabaseApiIntegration("test", "sqlite")
    connection.ensure_connection()
    connection.connection = get_traced_connection_proxy(connection.connection, integration)
    return get_traced_cursor_proxy(connection.cursor(), integration)


def through(function, *paths):
    """Return a function that calls another one from these files, the first one nearest to it."""
    for path in paths:
        scope = {"function": function}
        exec(compile("def get_url(*args):\n    return function()", path, "exec"), scope)
        function = scope["get_url"]
    return function


def call_site_of(connection, *paths, application=(), view=False, deep=0, cursor=DatabaseWrapper.cursor):
    """Return the call site of a query that is sent through these files, in a thread of its own."""
    kept = []
    wrapper = capture_wrapper.execute_wrapper(kept.append, call_site=True, application=application)
    capture_wrapper.install(wrapper, connection)
    ask = through(partial(cursor(connection).execute, "SELECT 1"), *paths[:1], *[JINJA] * deep, *paths[1:])
    if view:  # as a server does
        ask = through(
            partial(exception.convert_exception_to_response(ask), RequestFactory().get("/")), GUNICORN
        )
    connection.inc_thread_sharing()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    captured = Captured(*kept[0])
    sites = CallSites(Conf(application=application))
    return None if captured.code is None else sites.name(captured.code, captured.lasti)


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        ([SHOP], "/srv/shop/views.py:2 get_url"),
        ([WAGTAIL, SHOP, WAGTAIL, "/srv/shop/urls.py"], "/srv/shop/views.py:2 get_url"),
        ([WAGTAIL, DRF], "~wagtail/models/pages.py:2 get_url"),  # the nearest library
        ([django.__file__, WAGTAIL], "~wagtail/models/pages.py:2 get_url"),
        ([django.__file__], None),
        ([django.__file__, GUNICORN], None),
        ([django.__file__, "/srv/shop/manage.py"], None),
        (
            [SEKIZAI, NODES, WAGTAIL],
            "~sekizai/templatetags/sekizai_tags.py:2 get_url",
        ),  # a template tag that queries
        ([NODES, WAGTAIL], "~wagtail/models/pages.py:2 get_url"),  # a view that renders a template
        ([NODES, SEKIZAI, NODES, WAGTAIL], "~wagtail/models/pages.py:2 get_url"),  # a tag that renders nodes
        ([NODES, SEKIZAI, NODES, SEKIZAI, NODES, WAGTAIL], "~wagtail/models/pages.py:2 get_url"),
        ([DRF, NODES, SEKIZAI, NODES, WAGTAIL], "~rest_framework/pagination.py:2 get_url"),
        ([NODES, SEKIZAI, NODES, SHOP], "/srv/shop/views.py:2 get_url"),
        ([NODES, SEKIZAI, NODES], None),
    ],
)
def test_call_site_is_application_code_else_the_nearest_library(connection, paths, name):
    assert call_site_of(connection, *paths) == name


def test_depth_of_the_stack_does_not_decide(connection):
    assert call_site_of(connection, WAGTAIL, SHOP, deep=300) == "/srv/shop/views.py:2 get_url"
    assert call_site_of(connection, WAGTAIL, GUNICORN, deep=300) == "~wagtail/models/pages.py:2 get_url"


def test_code_beyond_djangos_handler_is_no_call_site(connection):
    """A server, or a middleware of the project, has only passed the request on."""
    assert call_site_of(connection, django.__file__, view=True) is None
    assert call_site_of(connection, WAGTAIL, view=True) == "~wagtail/models/pages.py:2 get_url"
    assert call_site_of(connection, SHOP, view=True) == "/srv/shop/views.py:2 get_url"
    middleware = [django.__file__, base.__file__, "/srv/shop/middleware.py"]
    assert call_site_of(connection, *middleware, view=True) is None


@pytest.mark.parametrize("cursor", [toolbar_cursor, opentelemetry_cursor])
def test_package_that_wraps_cursors_is_no_call_site(connection, cursor):
    assert call_site_of(connection, SHOP, cursor=cursor) == "/srv/shop/views.py:2 get_url"
    # A generic view of DRF has no line of the application on the stack.
    assert call_site_of(connection, DRF, cursor=cursor) == "~rest_framework/pagination.py:2 get_url"
    assert call_site_of(connection, django.__file__, view=True, cursor=cursor) is None


def test_setting_makes_an_installed_package_application(connection):
    paths = [WAGTAIL, rest_framework.__file__, SHOP]
    assert call_site_of(connection, *paths).startswith("/srv/shop/")
    found = call_site_of(connection, *paths, application=("rest_framework",))
    assert found == "rest_framework/__init__.py:2 get_url"
