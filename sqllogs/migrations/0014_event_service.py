"""Name the project of an event, so that charts show the deploys of one of several."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sqllogs', '0013_unit_transactions'),
    ]

    operations = [
        migrations.AddField(
            model_name='event',
            name='service',
            field=models.CharField(help_text='Name of the project, where several write to one log.', max_length=100, null=True),
        ),
    ]
