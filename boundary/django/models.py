"""Models: the framework's tables for the ORM and the admin, to look at and not to write."""

from typing import Any, NoReturn

from django.db import models

from boundary.django.conf import database_alias, schema


def table(name: str) -> str:
    """Return a table's name within its Postgres schema, quoted so that Django leaves it alone."""
    return f'"{schema()}"."{name}"'


class ReadOnly(TypeError):
    """Raised when the framework's tables would be changed through the ORM."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ReadOnly("the framework alone writes its tables; use boundary.django, or the admin")


class _Rows(models.QuerySet[Any]):
    create = bulk_create = bulk_update = update = delete = _refuse


class _Stored(models.Manager.from_queryset(_Rows)):  # type: ignore[misc]
    """Rows of the database that sagas are kept in, whatever the routers say."""

    def get_queryset(self) -> Any:
        return super().get_queryset().using(database_alias())


class Stored(models.Model):
    """A row of one of the framework's tables."""

    objects = _Stored()

    class Meta:
        abstract = True

    save = delete = _refuse


class Status(models.TextChoices):
    """As `saga.state.Status`."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    STUCK = "stuck"
    COMPLETED = "completed"
    COMPENSATED = "compensated"


class SagaRecord(Stored):
    """One saga, for the ORM to read: the framework alone writes it.

    Example:
        ```python
        from boundary.django.models import SagaRecord, Status

        def stuck() -> list[str]:
            found = SagaRecord.objects.filter(status=Status.STUCK).order_by("started_at")
            return [f"{saga}: {saga.reason}" for saga in found]
        ```
    """

    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    version = models.IntegerField()
    key = models.TextField("business key", null=True)
    status = models.TextField(choices=Status.choices)
    direction = models.TextField()
    reason = models.TextField(null=True)
    started_at = models.DateTimeField("started")
    updated_at = models.DateTimeField("updated")
    finished_at = models.DateTimeField("finished", null=True)

    class Meta:
        managed = False
        db_table = table("saga")
        verbose_name = "saga"
        ordering = ("-started_at", "-id")
        default_permissions = ("view",)
        permissions = (
            ("replay_saga", "Can replay sagas"),
            ("cancel_saga", "Can cancel sagas"),
            ("skip_saga", "Can skip steps of sagas"),
            ("see_payload", "Can see the data of sagas and messages"),
        )

    def __str__(self) -> str:
        return f"{self.name}:{self.key}" if self.key is not None else str(self.id)


class Message(Stored):
    """One message that was sent."""

    id = models.UUIDField(primary_key=True)
    seq = models.BigIntegerField()
    kind = models.TextField()
    category = models.TextField()
    saga = models.ForeignKey(
        SagaRecord, models.DO_NOTHING, db_column="saga_id", db_constraint=False, null=True
    )
    saga_name = models.TextField(db_column="saga", null=True)
    sender = models.TextField(null=True)
    sent_at = models.DateTimeField("sent")

    class Meta:
        managed = False
        db_table = table("outbox")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Delivery(Stored):
    """One delivery of a message to a consumer.

    The table's key is the message with the consumer; Django knows the message alone.
    """

    message = models.OneToOneField(
        Message, models.DO_NOTHING, primary_key=True, db_constraint=False
    )
    consumer = models.TextField()
    state = models.TextField()
    attempts = models.IntegerField()
    rings = models.IntegerField()
    last_error = models.TextField(null=True)
    due_at = models.DateTimeField("due", null=True)
    done_at = models.DateTimeField("done", null=True)

    class Meta:
        managed = False
        db_table = table("inbox")
        verbose_name = "parked delivery"
        verbose_name_plural = "parked deliveries"
        default_permissions = ("view",)
        permissions = (
            ("retry_delivery", "Can have parked messages delivered again"),
            ("drop_delivery", "Can drop parked messages"),
        )

    def __str__(self) -> str:
        return f"{self.message_id} at {self.consumer}"


class Act(Stored):
    """One act of an operator, in the audit."""

    id = models.UUIDField(primary_key=True)
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    actor = models.TextField()
    act = models.TextField()
    saga_id = models.UUIDField("saga", null=True)
    message_id = models.UUIDField("message", null=True)
    reason = models.TextField()

    class Meta:
        managed = False
        db_table = table("audit")
        verbose_name = "act"
        verbose_name_plural = "audit"
        ordering = ("-seq",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.act} by {self.actor}"
