"""The framework's tables, brought to the version with intents, depths and origins of messages."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import migrations

from boundary.django.db.schema import downgrade_to, upgrade_to_head


class Migration(migrations.Migration):
    """Alembic commits on a connection of its own, so there is no transaction to be part of."""

    atomic = False
    dependencies: ClassVar[Sequence[tuple[str, str]]] = (("saga", "0003_waiting_times"),)

    operations: ClassVar[Sequence[Any]] = [
        migrations.RunPython(upgrade_to_head, downgrade_to("0004")),
    ]
