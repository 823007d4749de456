"""Note with a query what was rendered, and which rules ignore findings in it."""

from importlib import import_module
from typing import Any

from django.db import migrations, models

COLUMNS = {
    "asked_by": "s.asked_by",
    "rendering": "s.rendering",
    "ignored": "s.ignored",
    "same_values": "(q.flags & 16) <> 0",
}


def create_view(apps: Any, schema_editor: Any) -> None:
    import_module("sqllogs.migrations.0018_narrow_rows").create_view(apps, schema_editor, **COLUMNS)


def restore_view(apps: Any, schema_editor: Any) -> None:
    import_module("sqllogs.migrations.0022_asked_by").create_view(apps, schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('sqllogs', '0023_more_calls_findings'),
    ]

    operations = [
        migrations.CreateModel(
            name='IgnoreRule',
            fields=[
                ('key', models.CharField(help_text='Hash of its text and place.', max_length=32, primary_key=True, serialize=False)),
                ('text', models.CharField(help_text='Kinds, end, place and reason, separated by |.', max_length=500)),
                ('first_seen', models.DateTimeField(help_text='When it was first seen, UTC.')),
                ('last_seen', models.DateTimeField(help_text='When a query or the setting last had it, UTC.')),
                ('last_matched', models.DateTimeField(help_text='When it last ignored a finding, UTC.', null=True)),
                ('queries', models.BigIntegerField(default=0, help_text='Queries that it could have covered since it last ignored a finding.')),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.AddField(
            model_name='finding',
            name='ignored_by',
            field=models.CharField(blank=True, db_default='', default='', help_text='What ignores it: user NAME, code module:line or setting PATTERNS.', max_length=200),
        ),
        migrations.AddField(
            model_name='querysource',
            name='ignored',
            field=models.CharField(help_text='Rules of ignore_findings around it, one per line.', max_length=2000, null=True),
        ),
        migrations.AddField(
            model_name='querysource',
            name='rendering',
            field=models.CharField(help_text='Template and line, or field of a serializer, that was rendered, such as list.html:12 For.', max_length=300, null=True),
        ),
        migrations.AddField(
            model_name='unit',
            name='ignored',
            field=models.CharField(help_text='Rules of ignore_findings in it, one per line.', max_length=2000, null=True),
        ),
        migrations.AddField(
            model_name='unit',
            name='outside_call_site',
            field=models.CharField(help_text='The line that waited.', max_length=300, null=True),
        ),
        migrations.AddField(
            model_name='unit',
            name='outside_ms',
            field=models.FloatField(help_text='Longest wait for another service while a transaction was open, milliseconds.', null=True),
        ),
        migrations.AlterField(
            model_name='finding',
            name='kind',
            field=models.CharField(choices=[('slower', 'Slower'), ('all_slower', 'All statements slower'), ('new', 'New and expensive'), ('more_calls', 'More calls per unit of work'), ('more_rows', 'More rows per call'), ('more_errors', 'More errors'), ('n_plus_one', 'N+1'), ('unbounded', 'Unbounded result'), ('count_and_list', 'COUNT and list'), ('idle_transaction', 'Transaction open without a statement'), ('deadlock', 'Deadlocks'), ('lock_timeout', 'Lock timeouts'), ('serialization', 'Serialization failures'), ('serialization_retried', 'Serialization failures, retried'), ('same_values', 'Same query again'), ('rendering', 'Query in rendering'), ('connection_per_query', 'A connection per query'), ('outside_call', 'Transaction open around a call'), ('stale_ignore', 'Unused ignore rule')], max_length=32),
        ),
        migrations.AlterField(
            model_name='ringrow',
            name='flags',
            field=models.SmallIntegerField(help_text='1: executemany, 2: in a transaction, 4: trace is kept, 8: repeated on purpose, 16: sent before with the same values.'),
        ),
        migrations.RunPython(create_view, restore_view, atomic=False),
    ]
