"""Keep a row for each unit of work, and read records through a view that joins it.

The ring's table stays as it is, with one column more: the previous release writes to it until it
is restarted.
"""

from typing import Any

from django.db import migrations, models

COLUMNS = (
    "slot", "seq", "time", "duration_ms", "execute_ms", "fetch_ms", "rows", "fingerprint", "sql_length",
    "sql_hash", "alias", "vendor", "many", "in_transaction", "error", "sqlstate", "trace_id", "span_id",
    "unit_id", "sampled", "request_id", "kind", "route", "view", "method", "status", "repeats_allowed",
    "call_site", "release", "service", "host", "pid", "unit",
)  # fmt: skip
KNOWN_LATE = ("route", "view", "status")


def create_view(apps: Any, schema_editor: Any) -> None:
    quote = schema_editor.connection.ops.quote_name
    columns = ", ".join(
        f"COALESCE(u.{quote(name)}, r.{quote(name)}) AS {quote(name)}"
        if name in KNOWN_LATE
        else f"r.{quote(name)}"
        for name in COLUMNS
    )
    # The numbers are compared too: a slot that is used again must not describe an older record.
    schema_editor.execute(
        f"CREATE VIEW sqllogs_record AS SELECT {columns} FROM sqllogs_sqllog r "
        "LEFT JOIN sqllogs_unit u ON u.slot = r.unit AND r.seq BETWEEN u.first_seq AND u.last_seq"
    )


def drop_view(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP VIEW sqllogs_record")


def set_fillfactor(apps: Any, schema_editor: Any) -> None:
    """Leave room in each page on PostgreSQL: a unit is written at least twice."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE sqllogs_unit SET (fillfactor = 50)")


class Migration(migrations.Migration):

    dependencies = [
        ('sqllogs', '0011_service'),
    ]

    operations = [
        migrations.CreateModel(
            name='Unit',
            fields=[
                ('slot', models.IntegerField(help_text='Slot; SQLLog.unit of its queries.', primary_key=True, serialize=False)),
                ('first_seq', models.BigIntegerField(help_text='Number of its first record in this slot; without records a number of its own.')),
                ('last_seq', models.BigIntegerField(help_text='Number of its last record: the slot is kept until then.')),
                ('unit_id', models.CharField(help_text='Its id, 16 hex digits.', max_length=16, null=True)),
                ('parent_id', models.CharField(help_text='Id of the unit that it runs in, 16 hex digits.', max_length=16, null=True)),
                ('trace_id', models.CharField(help_text='W3C trace id, 32 hex digits.', max_length=32, null=True)),
                ('sampled', models.BooleanField(help_text='Whether the tracing backend keeps the trace.')),
                ('request_id', models.CharField(help_text='The X-Request-ID header.', max_length=64, null=True)),
                ('kind', models.CharField(help_text='request, command, task, ...; empty: just reserved.', max_length=16)),
                ('route', models.CharField(help_text='URL pattern that matched.', max_length=200, null=True)),
                ('view', models.CharField(help_text='Dotted name of the view, or name of the command, task or thread.', max_length=200, null=True)),
                ('url_name', models.CharField(help_text='Name of the URL pattern.', max_length=200, null=True)),
                ('method', models.CharField(help_text='HTTP method.', max_length=16, null=True)),
                ('status', models.SmallIntegerField(help_text='HTTP status; 499 if the client went away.', null=True)),
                ('exception', models.CharField(help_text='Class of the exception that it failed with.', max_length=100, null=True)),
                ('time', models.DateTimeField(help_text='When it began, UTC, microseconds.')),
                ('ended_at', models.DateTimeField(help_text='When it ended, UTC; NULL while it is running.', null=True)),
                ('duration_ms', models.FloatField(help_text='From its begin to its end, milliseconds; NULL while it is running.', null=True)),
                ('queries', models.IntegerField(help_text='Number of its queries.')),
                ('errors', models.IntegerField(help_text='Number of its failed queries.')),
                ('rows', models.BigIntegerField(help_text='Rows returned or changed, if the driver reports them.')),
                ('total_ms', models.FloatField(help_text='Sum of the durations of its queries, milliseconds.')),
                ('statements', models.IntegerField(help_text='Number of different statements.')),
                ('worst_repeat', models.IntegerField(help_text='How often one line has sent one statement, at most.')),
                ('worst_fingerprint', models.CharField(help_text='That statement; NULL if none was sent twice.', max_length=16, null=True)),
                ('worst_call_site', models.CharField(help_text='That line.', max_length=300, null=True)),
                ('response_bytes', models.BigIntegerField(help_text="Size of the response's body, if known.", null=True)),
                ('tags', models.CharField(help_text='Tags of the host, as ,a,b,.', max_length=200, null=True)),
                ('release', models.CharField(help_text='Version of the application.', max_length=100, null=True)),
                ('service', models.CharField(help_text='Name of the project, where several write to one log.', max_length=100, null=True)),
                ('host', models.CharField(help_text='Name of the machine.', max_length=255)),
                ('pid', models.IntegerField(help_text='Process id.')),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterModelOptions(
                    name='sqllog',
                    options={'default_permissions': ('view',), 'managed': False, 'permissions': [('view_sqllog_text', 'Can view the SQL text'), ('explain_sqllog', 'Can explain a statement'), ('review_sqllog', 'Can review statements')], 'verbose_name': 'SQL log', 'verbose_name_plural': 'SQL logs'},
                ),
                migrations.AlterModelTable(name='sqllog', table='sqllogs_record'),
                migrations.CreateModel(
                    name='RingRow',
                    fields=[
                        ('slot', models.IntegerField(help_text='Slot in the ring, 0 to capacity - 1.', primary_key=True, serialize=False)),
                        ('seq', models.BigIntegerField(help_text='Number of the record, ascending over all processes.', verbose_name='id')),
                        ('time', models.DateTimeField(help_text='When the statement was sent, UTC, microseconds.')),
                        ('duration_ms', models.FloatField(help_text='Execute and fetch time, milliseconds.', verbose_name='duration')),
                        ('execute_ms', models.FloatField(help_text="Time in the driver's execute, milliseconds.")),
                        ('fetch_ms', models.FloatField(help_text="Time in the driver's fetches, milliseconds.", null=True)),
                        ('rows', models.BigIntegerField(help_text='Rows returned or changed; rows fetched where the driver has no count.', null=True)),
                        ('fingerprint', models.CharField(help_text='16 hex digits, the same for statements that differ only in literals.', max_length=16)),
                        ('sql_length', models.IntegerField(help_text='Characters of the statement as sent.')),
                        ('sql_hash', models.CharField(help_text='BLAKE2b hash of a statement that was cut.', max_length=16, null=True)),
                        ('alias', models.CharField(help_text='Alias in DATABASES.', max_length=64)),
                        ('vendor', models.CharField(help_text="Django's vendor name: sqlite, postgresql, ...", max_length=16)),
                        ('many', models.BooleanField(help_text='Sent by executemany, which is one record.')),
                        ('in_transaction', models.BooleanField(help_text='Sent inside a transaction, or ends it.')),
                        ('error', models.CharField(help_text='Class of the exception raised; its message is never stored.', max_length=100, null=True)),
                        ('sqlstate', models.CharField(help_text='SQLSTATE of the error, where the database has one.', max_length=5, null=True)),
                        ('trace_id', models.CharField(help_text='W3C trace id, 32 hex digits.', max_length=32, null=True)),
                        ('span_id', models.CharField(help_text='W3C span id, 16 hex digits.', max_length=16, null=True)),
                        ('unit_id', models.CharField(help_text='Id of the request, command or task, 16 hex digits.', max_length=16, null=True)),
                        ('sampled', models.BooleanField(help_text='Whether the tracing backend keeps the trace.')),
                        ('request_id', models.CharField(help_text='The X-Request-ID header.', max_length=64, null=True)),
                        ('kind', models.CharField(help_text='Kind of unit of work: request, command, task or thread.', max_length=16)),
                        ('route', models.CharField(help_text='URL pattern that matched.', max_length=200, null=True)),
                        ('view', models.CharField(help_text='Dotted name of the view, or name of the command, task or thread.', max_length=200, null=True)),
                        ('method', models.CharField(help_text='HTTP method.', max_length=16, null=True)),
                        ('status', models.SmallIntegerField(help_text='HTTP status; NULL while the request is running, and for any other unit.', null=True)),
                        ('repeats_allowed', models.BooleanField(db_default=False, default=False, help_text='Repeated on purpose, so not an N+1.')),
                        ('call_site', models.CharField(help_text='Where the application sent it, as path/file.py:line function.', max_length=300, null=True)),
                        ('release', models.CharField(help_text='Version of the application.', max_length=100, null=True)),
                        ('service', models.CharField(help_text='Name of the project, where several write to one log.', max_length=100, null=True)),
                        ('host', models.CharField(help_text='Name of the machine.', max_length=255)),
                        ('pid', models.IntegerField(help_text='Process id.')),
                    ],
                    options={
                        'db_table': 'sqllogs_sqllog',
                        'default_permissions': (),
                    },
                ),
            ],
        ),
        migrations.AddField(
            model_name='ringrow',
            name='unit',
            field=models.IntegerField(help_text='Slot of the unit of work in Unit.', null=True),
        ),
        migrations.AddField(
            model_name='ringhead',
            name='idle_units',
            field=models.BigIntegerField(db_default=0, default=0, help_text='The last reserved number of a unit without queries.'),
        ),
        migrations.AddField(
            model_name='ringhead',
            name='unit_cursor',
            field=models.IntegerField(db_default=0, default=0, help_text='Slot from which the next free ones are searched.'),
        ),
        migrations.AddField(
            model_name='ringhead',
            name='unit_slots',
            field=models.IntegerField(db_default=0, default=0, help_text='Number of slots for units.'),
        ),
        migrations.AddField(
            model_name='process',
            name='units_dropped',
            field=models.BigIntegerField(db_default=0, default=0, help_text='Units of work whose row is missing or was not completed.'),
        ),
        migrations.RunPython(set_fillfactor, migrations.RunPython.noop, atomic=False),
        migrations.RunPython(create_view, drop_view, atomic=False),
    ]
