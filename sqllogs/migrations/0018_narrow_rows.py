"""Store records as numbers, in a table of their own.

The ring is empty afterwards; statistics, reviews, events and tokens stay. The previous table stays too,
empty: processes of the previous release write to it until they are restarted.
"""

from importlib import import_module
from typing import Any

from django.db import migrations, models

HEX = {
    "sqlite": "printf('%016x', {})",
    "postgresql": "lpad(to_hex({}), 16, '0')",
    "mysql": "lower(lpad(hex({}), 16, '0'))",
}
OF_UNIT = ("request_id", "route", "view", "method", "status", "release", "service")


def create_view(apps: Any, schema_editor: Any, **more: str) -> None:
    """Create the view; later migrations add columns to it."""
    connection = schema_editor.connection
    quote = connection.ops.quote_name
    ms = "q.{}::float8 / 1000" if connection.vendor == "postgresql" else "q.{} / 1e3"
    columns = {
        **{name: f"q.{quote(name)}" for name in ("slot", "seq", "time")},
        "duration_ms": ms.format("duration_us"),
        "execute_ms": ms.format("execute_us"),
        "fetch_ms": ms.format("fetch_us"),
        **{name: f"q.{quote(name)}" for name in ("rows", "sql_length", "sql_hash", "error", "sqlstate")},
        "fingerprint": HEX[connection.vendor].format("q.statement"),
        "alias": "COALESCE(s.alias, '')",
        "vendor": "COALESCE(s.vendor, '')",
        "many": "(q.flags & 1) <> 0",
        "in_transaction": "(q.flags & 2) <> 0",
        "sampled": "(q.flags & 4) <> 0",
        "repeats_allowed": "(q.flags & 8) <> 0",
        "trace_id": "COALESCE(q.trace_id, u.trace_id)",
        "span_id": "COALESCE(q.span_id, u.unit_id)",
        "unit_id": "COALESCE(u.unit_id, q.span_id)",
        "kind": "COALESCE(u.kind, 'thread')",
        **{name: f"u.{quote(name)}" for name in OF_UNIT},
        "call_site": "s.call_site",
        "host": f"COALESCE(u.{quote('host')}, '')",
        "pid": "COALESCE(u.pid, 0)",
        "unit": "q.unit",
        "statement": "q.statement",
        **more,
    }
    chosen = ", ".join(f"{value} AS {quote(name)}" for name, value in columns.items())
    # The numbers are compared too: a slot that is used again must not describe an older record.
    joined = "u.slot = q.unit AND q.seq BETWEEN u.first_seq AND u.last_seq"
    schema_editor.execute("DROP VIEW sqllogs_record", params=None)
    schema_editor.execute(
        f"CREATE VIEW sqllogs_record AS SELECT {chosen} FROM sqllogs_query q "
        f"LEFT JOIN sqllogs_unit u ON {joined} LEFT JOIN sqllogs_source s ON s.id = q.source",
        params=None,
    )


def restore_view(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP VIEW sqllogs_record", params=None)
    import_module("sqllogs.migrations.0012_units").create_view(apps, schema_editor)


def empty_ring(apps: Any, schema_editor: Any) -> None:
    """Free the space of the previous records, and forget the index of their blocks."""
    verb = "TRUNCATE" if schema_editor.connection.vendor == "postgresql" else "DELETE FROM"
    schema_editor.execute(f"{verb} sqllogs_sqllog", params=None)
    schema_editor.execute(f"{verb} sqllogs_blockcolumn", params=None)


def set_fillfactor(apps: Any, schema_editor: Any) -> None:
    """Leave room in each page on PostgreSQL, so that a slot is overwritten where it is (HOT)."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE sqllogs_query SET (fillfactor = 50)", params=None)


class Migration(migrations.Migration):

    dependencies = [
        ('sqllogs', '0017_idle_transaction_findings'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name='RingRow')]),
        migrations.CreateModel(
            name='RingRow',
            fields=[
                ('slot', models.IntegerField(help_text='Slot in the ring, 0 to capacity - 1.', primary_key=True, serialize=False)),
                ('unit', models.IntegerField(help_text='Slot of the unit of work in Unit.', null=True)),
                ('seq', models.BigIntegerField(help_text='Number of the record, ascending over all processes.')),
                ('time', models.BigIntegerField(help_text='When it was sent, microseconds since the epoch.')),
                ('statement', models.BigIntegerField(help_text='The fingerprint as a signed number.')),
                ('source', models.BigIntegerField(help_text='Call site and database: the id of a QuerySource.')),
                ('duration_us', models.BigIntegerField(help_text='Execute and fetch time, microseconds.')),
                ('execute_us', models.BigIntegerField(help_text="Time in the driver's execute, microseconds.")),
                ('fetch_us', models.BigIntegerField(help_text="Time in the driver's fetches, microseconds.", null=True)),
                ('rows', models.BigIntegerField(help_text='Rows returned or changed, or else fetched.', null=True)),
                ('sql_length', models.IntegerField(help_text='Characters of the statement as sent.')),
                ('flags', models.SmallIntegerField(help_text='1: executemany, 2: in a transaction, 4: trace is kept, 8: repeated on purpose.')),
                ('trace_id', models.CharField(help_text="W3C trace id; NULL: its unit's.", max_length=32, null=True)),
                ('span_id', models.CharField(help_text="W3C span id; NULL: its unit's id.", max_length=16, null=True)),
                ('sql_hash', models.CharField(help_text='BLAKE2b hash of a statement that was cut.', max_length=16, null=True)),
                ('error', models.CharField(help_text='Class of the exception raised.', max_length=100, null=True)),
                ('sqlstate', models.CharField(help_text='SQLSTATE of the error.', max_length=5, null=True)),
            ],
            options={
                'db_table': 'sqllogs_query',
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='QuerySource',
            fields=[
                ('id', models.BigIntegerField(help_text='48 bits of a BLAKE2b hash of the fields.', primary_key=True, serialize=False)),
                ('call_site', models.CharField(help_text='Where the application sent it, as path/file.py:line function.', max_length=300, null=True)),
                ('alias', models.CharField(help_text='Alias in DATABASES.', max_length=64)),
                ('vendor', models.CharField(help_text="Django's vendor name: sqlite, postgresql, ...", max_length=16)),
            ],
            options={
                'db_table': 'sqllogs_source',
                'default_permissions': (),
            },
        ),
        migrations.RunPython(set_fillfactor, migrations.RunPython.noop, atomic=False),
        migrations.RunPython(empty_ring, migrations.RunPython.noop, atomic=False),
        migrations.RunPython(create_view, restore_view, atomic=False),
    ]
