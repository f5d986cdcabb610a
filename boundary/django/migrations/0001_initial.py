"""The framework's tables, and the models that look at them."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import migrations, models

from boundary.django.db.schema import downgrade_to, upgrade_to_head
from boundary.django.models import table


class Migration(migrations.Migration):
    """Alembic commits on a connection of its own, so there is no transaction to be part of."""

    initial = True
    atomic = False
    dependencies: ClassVar[Sequence[tuple[str, str]]] = ()

    operations: ClassVar[Sequence[Any]] = [
        migrations.RunPython(upgrade_to_head, downgrade_to("base")),
        migrations.CreateModel(
            name="Act",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("seq", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("actor", models.TextField()),
                ("act", models.TextField()),
                ("saga_id", models.UUIDField(null=True, verbose_name="saga")),
                ("message_id", models.UUIDField(null=True, verbose_name="message")),
                ("reason", models.TextField()),
            ],
            options={
                "verbose_name": "act",
                "verbose_name_plural": "audit",
                "db_table": table("audit"),
                "ordering": ("-seq",),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("seq", models.BigIntegerField()),
                ("kind", models.TextField()),
                ("category", models.TextField()),
                ("saga_name", models.TextField(db_column="saga", null=True)),
                ("sender", models.TextField(null=True)),
                ("sent_at", models.DateTimeField(verbose_name="sent")),
            ],
            options={
                "db_table": table("outbox"),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="SagaRecord",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("name", models.TextField()),
                ("version", models.IntegerField()),
                ("key", models.TextField(null=True, verbose_name="business key")),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("running", "Running"),
                            ("compensating", "Compensating"),
                            ("stuck", "Stuck"),
                            ("completed", "Completed"),
                            ("compensated", "Compensated"),
                        ]
                    ),
                ),
                ("direction", models.TextField()),
                ("reason", models.TextField(null=True)),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("updated_at", models.DateTimeField(verbose_name="updated")),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished")),
            ],
            options={
                "verbose_name": "saga",
                "db_table": table("saga"),
                "ordering": ("-started_at", "-id"),
                "permissions": (
                    ("replay_saga", "Can replay sagas"),
                    ("cancel_saga", "Can cancel sagas"),
                    ("skip_saga", "Can skip steps of sagas"),
                    ("see_payload", "Can see the data of sagas and messages"),
                ),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "message",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=models.DO_NOTHING,
                        primary_key=True,
                        serialize=False,
                        to="saga.message",
                    ),
                ),
                ("consumer", models.TextField()),
                ("state", models.TextField()),
                ("attempts", models.IntegerField()),
                ("rings", models.IntegerField()),
                ("last_error", models.TextField(null=True)),
                ("due_at", models.DateTimeField(null=True, verbose_name="due")),
                ("done_at", models.DateTimeField(null=True, verbose_name="done")),
            ],
            options={
                "verbose_name": "parked delivery",
                "verbose_name_plural": "parked deliveries",
                "db_table": table("inbox"),
                "permissions": (
                    ("retry_delivery", "Can have parked messages delivered again"),
                    ("drop_delivery", "Can drop parked messages"),
                ),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
