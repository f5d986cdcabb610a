"""Partners: contexts that have a Postgres of their own in a run with ``--own-database``.

One is commanded, compensated and listened to; the others act outside the database.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from internals import Context
from tests.chaos.calling import bank
from tests.chaos.charging import payments
from tests.chaos.contexts import hotels
from tests.chaos.plan import PARTNERS

CONTEXTS: tuple[Context, ...] = (hotels, payments, bank)

_DELIVERIES = """
SELECT consumer, message_id, state, attempts, last_error FROM {schema}.inbox
WHERE consumer = ANY (:names)
"""

_OPEN = """
SELECT consumer, state, count(*), min(last_error) FROM {schema}.inbox
WHERE state NOT IN ('done', 'revoked') AND NOT (state = 'parked' AND consumer = ANY (:names))
GROUP BY consumer, state
"""


def move_out(*, out: bool) -> None:
    """Give the partners a database of their own in this process, or none."""
    for context in CONTEXTS:
        context.database = PARTNERS if out else None


def disagreements(home: Connection, apart: Connection, schema: str) -> Iterator[str]:
    """Tell where what home knows of the partners' deliveries is not what they have."""
    asked = {"names": [context.name for context in CONTEXTS]}
    read = text(_DELIVERIES.format(schema=schema))
    here, there = (
        {(row.consumer, row.message_id): tuple(row[2:]) for row in connection.execute(read, asked)}
        for connection in (home, apart)
    )
    for key in here.keys() | there.keys():
        known, had = here.get(key), there.get(key)
        # Taken back before it came there, or given up after it was parked there.
        revoked = known is not None and known[0] == "revoked"
        revoked = revoked and (had is None or had[0] in ("parked", "revoked"))
        if known != had and not revoked:
            yield f"{key[1]} at {key[0]} is {had} there, and {known} at home"
    for consumer, state, count, error in apart.execute(text(_OPEN.format(schema=schema)), asked):
        yield f"{count} deliveries of {consumer} are {state} there ({error})"
