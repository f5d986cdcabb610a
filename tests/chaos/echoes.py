"""Messages that come again, and deliveries out of order.

A doorbell has no content, so what could go wrong with messages on their way is done to the
messages where they are: in the store, through the framework's own way of sending.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Engine, create_engine, text

from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.ids import uuid7
from internals.store.message_columns import SELECTED, from_row
from internals.store.outbox import Outbox
from internals.store.sql import statements
from saga import Envelope
from tests.chaos.plan import SCHEMA

_RECENT = f"""
SELECT {SELECTED}
FROM outbox AS o
WHERE o.kind NOT IN ('saga.started', 'saga.revoked')  -- what a saga tells itself
  AND (NOT %(replies)s OR o.category = 'reply')
ORDER BY o.seq DESC LIMIT 400
"""

_REORDER = """
UPDATE inbox AS i SET due_at = now() + m.delay * interval '1 second',
                      ring_at = now() + m.delay * interval '1 second'
FROM (
    SELECT message_id, consumer, random() * :most AS delay FROM inbox
    WHERE state = 'pending' AND wait_reason IS NULL
    ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
) AS m
WHERE i.message_id = m.message_id AND i.consumer = m.consumer
"""

_IS_BUSY = "SELECT count(*) > :most FROM inbox WHERE state = 'pending'"

_BUSY = 600
_AT_ONCE = 20
_LATEST = 1.5


class Echoes:
    """Sends what was sent before, and shuffles what is due.

    Args:
        url: Of the database, at any time: it may move.
        ring: Rings doorbells.
    """

    def __init__(self, url: str, ring: Callable[[frozenset[str]], None]) -> None:
        self._engine: Engine = create_engine(url, pool_pre_ping=True)
        self._outbox = Outbox(statements(SCHEMA), grace=1.0)
        self._ring = ring

    def repeat(self, rng: random.Random) -> bool:
        """Send the very same messages again, each two to five times in all."""
        again = self._sample(rng, replies=False)
        self._send([message for message in again for _ in range(rng.randint(1, 4))], rng)
        return bool(again)

    def repeat_replies(self, rng: random.Random) -> bool:
        """Send what sagas were told again, under other ids, as a clumsy sender would."""
        with self._engine.connect() as connection:
            if connection.execute(text(_IS_BUSY), {"most": _BUSY}).scalar():
                return False  # else echoes would be all that there is to do
        again = [replace(message, id=uuid7()) for message in self._sample(rng, replies=True)]
        self._send(again, rng)
        return bool(again)

    def reorder(self, rng: random.Random) -> bool:
        """Make deliveries that are due now due at some other time soon."""
        with self._engine.begin() as connection:
            moved = connection.execute(text(_REORDER), {"most": _LATEST, "limit": 2 * _AT_ONCE})
            return moved.rowcount > 0

    def close(self) -> None:
        self._engine.dispose()

    def _sample(self, rng: random.Random, *, replies: bool) -> Sequence[Envelope]:
        with self._engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            rows = unit.run(_RECENT, {"replies": replies})
        chosen = rng.sample(rows, min(_AT_ONCE, len(rows)))
        return [from_row(row) for row in chosen]

    def _send(self, messages: Sequence[Envelope], rng: random.Random) -> None:
        shuffled = rng.sample(messages, len(messages))
        with self._engine.begin() as connection:
            woken = self._outbox.send(SqlAlchemyUnitOfWork(connection), shuffled)
        self._ring(frozenset(woken))
