"""Leave room in each page on PostgreSQL, so that a slot is overwritten where it is (HOT)."""

from typing import Any

from django.db import migrations


def set_fillfactor(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE sqllogs_sqllog SET (fillfactor = 50)")


class Migration(migrations.Migration):
    dependencies = [("sqllogs", "0001_initial")]

    operations = [migrations.RunPython(set_fillfactor, migrations.RunPython.noop)]
