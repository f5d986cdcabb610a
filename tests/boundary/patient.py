"""A baker whose handler waits until it is let go; `dramatiq patient:start` runs it."""

import dramatiq
from pydantic import BaseModel
from sqlalchemy import text

from boundary import Runtime, Settings
from internals import Context, Work
from saga import Command, Saga, Step


class Loaf(BaseModel):
    n: int = 1


class Knead(Command, kind="baker.knead"):
    n: int


BREAD = Saga("bread", Loaf, (Step("knead", lambda loaf: Knead(n=loaf.n)),))

#: Whoever holds this lock in the test's schema keeps the baker waiting.
LOCK = "SELECT pg_advisory_lock(1, hashtext(%s))"
UNLOCK = "SELECT pg_advisory_unlock(1, hashtext(%s))"
WAITING = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND classid = 1 AND objid = hashtext(%s)::bigint & 4294967295
  AND NOT granted
"""


def make_runtime(settings: Settings) -> Runtime:
    baker = Context("baker")

    @baker.handles(Knead)
    def knead(command: Knead, work: Work) -> None:
        schema = settings.db_schema
        work.connection.execute(
            text("SELECT pg_advisory_xact_lock(1, hashtext(:schema))"), {"schema": schema}
        )
        work.connection.execute(text(f"INSERT INTO {schema}.ledger VALUES (:n)"), {"n": command.n})

    return Runtime(sagas=[BREAD], contexts=[baker], settings=settings)


def start() -> None:
    dramatiq.set_broker(make_runtime(Settings()).worker())
