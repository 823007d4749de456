import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AlterField(
            "order",
            "customer",
            models.ForeignKey("shop.customer", django.db.models.deletion.CASCADE, db_index=False),
        )
    ]
