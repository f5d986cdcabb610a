"""The effects ledger and the money: what the contexts really did.

Nothing here is unique, on purpose: an effect that happens twice is two rows, and shows.
"""

from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    MetaData,
    Table,
    Text,
    Uuid,
    insert,
    text,
)

from internals import Work
from tests.chaos.hanging import meet
from tests.chaos.trips import TRAVELLERS

#: Who is paid: one row each, which all hops of a context write.
COMPANIES = {
    "flight": "airline",
    "hotel": "hotels",
    "car": "cars",
    "payment": "agency",
    "deposit": "bank",
    "insurance": "insurers",
    "voucher": "vouchers",
}

metadata = MetaData()

#: Append-only.  The tables are in the framework's schema, which is on the search path.
effects = Table(
    "chaos_effect",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("trip_id", Uuid, nullable=False),
    Column("step", Text, nullable=False),
    Column("op", Text, nullable=False, comment="do or undo"),
    Column("saga_id", Uuid, nullable=False),
    Column("root_id", Uuid, nullable=False, comment="the step's command: saga, step, generation"),
    Column("message_id", Uuid, nullable=False),
    Column("cents", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
)

#: Double entry: each movement is two rows that add up to nothing.
money = Table(
    "chaos_money",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("trip_id", Uuid, nullable=False),
    Column("account", Text, nullable=False),
    Column("cents", BigInteger, nullable=False),
)

#: Balances, kept by addition: a lost update shows against the rows of `money`.
accounts = Table(
    "chaos_account",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cents", BigInteger, nullable=False),
)

_EFFECT = """
    INSERT INTO chaos_effect (trip_id, step, op, saga_id, root_id, message_id, cents)
    VALUES (:trip_id, :step, :op, :saga_id, :root_id, :message_id, :cents)
"""

_PLAIN = text(_EFFECT)

_PAID = text(f"""
WITH effect AS ({_EFFECT}), moved AS (
    INSERT INTO chaos_money (trip_id, account, cents)
    VALUES (:trip_id, :payer, - CAST(:cents AS bigint)), (:trip_id, :payee, :cents)
)
UPDATE chaos_account
SET cents = cents + CASE WHEN name = :payee THEN CAST(:cents AS bigint) ELSE - :cents END
WHERE name IN (:payer, :payee)
""")

_IS_DONE = text("SELECT 1 FROM chaos_effect WHERE trip_id = :trip_id AND step = :step LIMIT 1")

_STANDS = text(
    """SELECT coalesce(sum(CASE op WHEN 'do' THEN 1 ELSE -1 END), 0) > 0 FROM chaos_effect
       WHERE trip_id = :trip_id AND step = :step"""
)


def create_tables(connection: Connection) -> None:
    """Create the tables in the first schema of the search path; the caller commits."""
    metadata.create_all(connection, checkfirst=False)
    names = [*COMPANIES.values(), *(f"traveller {number}" for number in range(TRAVELLERS))]
    connection.execute(insert(accounts), [{"name": name, "cents": 0} for name in names])
    connection.execute(text("CREATE INDEX ON chaos_effect (trip_id)"))


def do(work: Work, trip_id: UUID, step: str, traveller: str = "", cents: int = 0) -> None:
    """Record that a step was done; if it costs something, the traveller pays."""
    _write(work, trip_id, step, "do", cents, traveller, COMPANIES.get(step, ""))


def undo(work: Work, trip_id: UUID, step: str, traveller: str = "", cents: int = 0) -> None:
    """Record that a step was undone; if it cost something, the traveller is paid back."""
    _write(work, trip_id, step, "undo", cents, COMPANIES.get(step, ""), traveller)


def was_done(work: Work, trip_id: UUID, step: str) -> bool:
    """Whether there is anything to undo."""
    found = work.connection.execute(_IS_DONE, {"trip_id": trip_id, "step": step})
    return found.first() is not None


def stands(work: Work, trip_id: UUID, step: str) -> bool:
    """Whether it was done, and not undone since."""
    found = work.connection.execute(_STANDS, {"trip_id": trip_id, "step": step})
    return bool(found.scalar_one())


def _write(
    work: Work, trip_id: UUID, step: str, op: str, cents: int, payer: str, payee: str
) -> None:
    meet(work)
    values = {
        "trip_id": trip_id,
        "step": step,
        "op": op,
        "saga_id": work.saga_id,
        "root_id": work.message.root_id,
        "message_id": work.message_id,
        "cents": cents,
    }
    if cents:
        work.connection.execute(_PAID, {**values, "payer": payer, "payee": payee})
    else:
        work.connection.execute(_PLAIN, values)
