import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel("Customer", [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=50))]),
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("customer", models.ForeignKey("shop.customer", django.db.models.deletion.CASCADE)),
                ("amount", models.IntegerField()),
            ],
        ),
        migrations.CreateModel("Stock", [("id", models.BigAutoField(primary_key=True)), ("left", models.IntegerField())]),
        migrations.RunSQL(
            """
            INSERT INTO shop_customer (name) SELECT 'customer ' || n FROM generate_series(1, 2000) n;
            INSERT INTO shop_order (customer_id, amount)
                SELECT 1 + n % 2000, n % 97 FROM generate_series(1, 300000) n;
            INSERT INTO shop_stock ("left") VALUES (100);
            """
        ),
    ]
