"""The fields of a record are listed in one place, and every reader follows it."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sqllogs.models import SQLLog
from sqllogs.record import COLUMNS, FIELDS, RECORD_FIELDS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sqllogs"
MODULES_MAX = 8

COLUMN = '    shard = models.CharField(max_length=16, null=True, help_text="Shard.")\n'
NEW_FIELD = {
    "models/ring.py": {
        # Of the table and of the view.
        '    sqlstate = models.CharField(max_length=5, null=True, help_text=_("SQLSTATE of the error."))\n': (
            COLUMN
        ),
        '    pid = models.IntegerField(help_text=_("Process id."))\n': COLUMN,
    },
    "record.py": {
        "    pid: int\n": "    shard: str | None\n",
        '    pid: Annotated[int, RecordField(_("Process"), FieldGroup.ORIGIN)]\n': (
            '    shard: Annotated[str | None, RecordField("Shard", FieldGroup.ORIGIN)]\n'
        ),
    },
    "pipeline/resolver.py": {"            pid=self.pid,\n": '            shard="s7",\n'},
    "storage/store.py": {"        form.sqlstate,\n": "        origin.shard,\n"},
}
"""All that a new field needs: in each module, the lines it goes behind."""

PROJECT = """
import sys
from django.conf import settings
from django.core.management import call_command
from django.urls import include, path

ring, default = ({"ENGINE": "django.db.backends.sqlite3", "NAME": f"{sys.argv[1]}/{name}"} for name in "rd")
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
        "django.contrib.messages", "django.contrib.sessions", "sqllogs",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    DATABASES={"sqllogs": ring, "default": default},
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField", USE_TZ=True, STATIC_URL="static/",
    SQLLOGS={"CALL_SITE": True}, SECRET_KEY="x", ALLOWED_HOSTS=["testserver"], ROOT_URLCONF=__name__,
)
import django
django.setup()
from django.contrib import admin
urlpatterns = [path("sql-logs/", include("sqllogs.urls")), path("admin/", admin.site.urls)]
call_command("makemigrations", "sqllogs", verbosity=0)
for alias in ("default", "sqllogs"):
    call_command("migrate", database=alias, verbosity=0)

from importlib import import_module
from django.db import connections
columns = import_module("sqllogs.migrations.0027_source_of_record").COLUMNS
create_view = import_module("sqllogs.migrations.0018_narrow_rows").create_view
with connections["sqllogs"].schema_editor() as editor:  # what is left for the migration by hand
    create_view(None, editor, **columns, shard="q.shard")

from django.contrib.auth.models import User
from django.test import Client
from sqllogs import conf, recorder
from sqllogs.otel.log_records import LogRecords
from sqllogs.pipeline.resolver import Resolver
from sqllogs.testing import record_queries

with record_queries() as log:
    user = User.objects.create_superuser("root", password=None)
recorder.flush()
client = Client()
client.force_login(user)
record = client.get("/sql-logs/?limit=1").json()["results"][0]
print("JSON", list(record)[-1], record["shard"])
print("CSV", client.get("/sql-logs/?limit=1&format=csv").content.split()[0].decode().split(",")[-1])
print("page", ">s7<" in client.get(f"/sql-logs/{record['id']}/?format=html").content.decode())
url = f"/admin/sqllogs/sqllog/{record['id']}/change/"
print("admin", ">s7<" in client.get(url).content.decode())
batch = Resolver(conf.load()).batch(log._captured)
(made, *_) = batch.records
statement = batch.statements[made.fingerprint]
sent = LogRecords(release="", slow_ms=1).from_record(made, statement, statement.sql)
print("OTLP", sent.log_record.attributes["shard"])
"""


def test_four_modules_give_a_new_field_to_ring_json_csv_page_admin_and_otlp(tmp_path):
    copy = tmp_path / "package" / "sqllogs"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, lines in NEW_FIELD.items():
        source = (copy / name).read_text()
        for line, added in lines.items():
            assert line in source
            source = source.replace(line, line + added, 1)
        (copy / name).write_text(source)

    environment = os.environ | {"PYTHONPATH": str(copy.parent)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-c", PROJECT, str(tmp_path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["JSON shard s7", "CSV shard", "page True", "admin True", "OTLP s7"], (
        done.stderr
    )


def test_record_has_the_columns_of_the_view():
    stored = [field.name for field in SQLLog._meta.fields]

    assert sorted(stored) == sorted(["slot", "seq", *RECORD_FIELDS, "unit", "statement_number", "source"])
    assert set(COLUMNS) < set(stored)
    assert set(FIELDS) - set(COLUMNS) == {"id", "sql", "operation", "tables"}


def names_in(path):
    """Return the identifiers, attributes, arguments and whole strings of a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=name):
                found.add(name)
            case ast.Constant(value=str(name)) | ast.FunctionDef(name=name):
                found.add(name)
    return found


@pytest.fixture(scope="module")
def modules_by_name():
    """In which modules each name stands, migrations excluded."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if "migrations" not in path.parts:
            for name in names_in(path):
                found.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    return found


ALSO_WORDS_OF_OTHER_SUBJECTS = {
    # Statistics, findings, metrics, log lines, page and terminal group, filter or label by these.
    "id", "time", "duration_ms", "rows", "sql", "fingerprint", "operation", "tables", "alias", "vendor",
    "error", "trace_id", "kind", "route", "view", "method", "status", "call_site", "release", "host",
    "service", "sql_length", "request_id",
    "span_id", "sampled",  # spans and the trace context
    "many",  # an argument of execute wrappers
    "in_transaction",  # an attribute of sqlite3's connections
    "pid",  # processes in health/
    "sqlstate", "unit_id",  # patterns that findings search for
    "asked_by",  # what the remedies of an N+1 follow
}  # fmt: skip
"""They are not counted by name, because most modules with that word do not mean the field."""


@pytest.mark.parametrize("name", sorted(set(FIELDS) - ALSO_WORDS_OF_OTHER_SUBJECTS))
def test_name_of_a_field_stands_in_few_modules(name, modules_by_name):
    assert len(modules_by_name[name]) <= MODULES_MAX, modules_by_name[name]


def test_only_definition_tables_resolver_and_store_list_most_fields_of_a_record():
    listing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "migrations" not in path.parts and len(names_in(path) & set(FIELDS)) > 0.6 * len(FIELDS)
    }
    assert listing == {"models/ring.py", "record.py", "pipeline/resolver.py", "storage/store.py"}
