"""Store what of Django's ORM asked for a repeated statement, beside the call site."""

from importlib import import_module
from typing import Any

from django.db import migrations, models


def create_view(apps: Any, schema_editor: Any) -> None:
    import_module("sqllogs.migrations.0018_narrow_rows").create_view(
        apps, schema_editor, asked_by="s.asked_by"
    )


def restore_view(apps: Any, schema_editor: Any) -> None:
    import_module("sqllogs.migrations.0018_narrow_rows").create_view(apps, schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('sqllogs', '0021_review_terms'),
    ]

    operations = [
        migrations.AddField(
            model_name='querysource',
            name='asked_by',
            field=models.CharField(help_text="What of Django's ORM asked, for the fifth repetition.", max_length=300, null=True),
        ),
        migrations.RunPython(create_view, restore_view, atomic=False),
    ]
