"""Show a record's source as a number, by which the call sites that are asked for are compared."""

from importlib import import_module
from typing import Any

from django.db import migrations

COLUMNS = {**import_module("sqllogs.migrations.0024_ignored_findings").COLUMNS, "source": "q.source"}


def create_view(apps: Any, schema_editor: Any) -> None:
    import_module("sqllogs.migrations.0018_narrow_rows").create_view(apps, schema_editor, **COLUMNS)


def restore_view(apps: Any, schema_editor: Any) -> None:
    import_module("sqllogs.migrations.0024_ignored_findings").create_view(apps, schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('sqllogs', '0026_token_names'),
    ]

    operations = [
        migrations.RunPython(create_view, restore_view, atomic=False),
    ]
