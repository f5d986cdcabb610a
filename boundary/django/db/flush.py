"""Flush: sagas, messages and deliveries are removed when a host empties its database."""

from django.db import connections, transaction

from boundary.django.conf import read_settings

#: What contexts react to stays: a worker that runs meanwhile has recorded it once and for all.
_EMPTIED = ("saga", "inbox", "outbox", "settling", "audit")

_OWNS = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"


def empty(alias: str) -> None:
    """Remove all sagas and messages from the database of this alias, if it holds any.

    The audit refuses that to all but its owner, and stays where the database's user is another.
    """
    schema = read_settings().db_schema
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        owned = []
        for table in (f"{schema}.{name}" for name in _EMPTIED):
            cursor.execute(_OWNS, [table])
            found = cursor.fetchone()
            if found is None:
                continue  # not migrated, or not the framework's database
            if found[0] or not table.endswith(".audit"):
                owned.append(table)
        audit = f"{schema}.audit"
        if audit in owned:
            cursor.execute(f"ALTER TABLE {audit} DISABLE TRIGGER audit_append_only")
        if owned:
            cursor.execute(f"TRUNCATE {', '.join(owned)}")
        if audit in owned:
            cursor.execute(f"ALTER TABLE {audit} ENABLE TRIGGER audit_append_only")
