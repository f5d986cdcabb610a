"""The shop's tables, with something on the shelf."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import migrations, models


def fill(apps: Any, editor: Any) -> None:
    """Put articles on the shelf."""
    stock = apps.get_model("shop", "Stock")
    for article in ("kettle", "lamp", "teapot"):
        stock.objects.using(editor.connection.alias).create(article=article, left=1000)


class Migration(migrations.Migration):
    """Stock, orders and payments."""

    initial = True
    dependencies: ClassVar[Sequence[tuple[str, str]]] = ()
    operations: ClassVar[Sequence[Any]] = [
        migrations.CreateModel(
            name="Stock",
            fields=[
                ("article", models.TextField(primary_key=True, serialize=False)),
                ("left", models.IntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("number", models.TextField(primary_key=True, serialize=False)),
                ("article", models.TextField()),
                ("quantity", models.IntegerField()),
                ("cents", models.IntegerField()),
                ("saga_id", models.UUIDField()),
                ("shipped", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                (
                    "order",
                    models.OneToOneField(
                        on_delete=models.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to="shop.order",
                    ),
                ),
                ("cents", models.IntegerField()),
            ],
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
