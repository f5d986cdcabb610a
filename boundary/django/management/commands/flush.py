"""`manage.py flush`, which empties the framework's tables too.

Django's own passes over tables of models that it does not manage.  `TransactionTestCase` calls it
after each test, and the next test that placed the same order would get the saga of the one before.
"""

from typing import Any

from django.core.management.commands.flush import Command as Flush
from django.db import connections

from boundary.django.db.flush import empty

_ASKED = """You have requested a flush of the database.
This will IRREVERSIBLY DESTROY all data currently in the "{name}" database, sagas, messages and the
audit among it, and return each table to an empty state.
Are you sure you want to do this?

    Type 'yes' to continue, or 'no' to cancel: """


class Command(Flush):
    """Empties the tables of a database, those of sagas and messages among them."""

    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        if options["interactive"]:
            name = connection.settings_dict["NAME"]
            if input(_ASKED.format(name=name)) != "yes":
                self.stdout.write("Flush cancelled.")
                return
        super().handle(**options | {"interactive": False})
        if connection.vendor == "postgresql":
            empty(connection.alias)
