"""The framework's tables, brought to the version that counts and orders deliveries."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import migrations

from boundary.django.db.schema import downgrade_to, upgrade_to_head


class Migration(migrations.Migration):
    """Alembic commits on a connection of its own, so there is no transaction to be part of."""

    atomic = False
    dependencies: ClassVar[Sequence[tuple[str, str]]] = (("saga", "0001_initial"),)

    operations: ClassVar[Sequence[Any]] = [
        migrations.RunPython(upgrade_to_head, downgrade_to("0002")),
    ]
