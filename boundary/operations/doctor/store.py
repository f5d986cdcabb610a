"""Store: what stands still in the tables, and who should move it."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from sqlalchemy import Connection

from boundary.operations.doctor.finding import Finding, Words, fine, note, wrong
from boundary.queries.query import query
from boundary.queries.running import LONG, running
from boundary.queries.time_format import duration
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.backfill import backfills

#: What is due longer than this is overdue.
OVERDUE = timedelta(seconds=30)
#: A living relay looks twice a second; what it left alone so long has no worker.
_UNRUNG = timedelta(seconds=10)

_STUCK = """
SELECT count(*), (array_agg(coalesce(name || ':' || key, id::text) ORDER BY updated_at))[1],
    clock_timestamp() - min(updated_at)
FROM {schema}.saga WHERE status = 'stuck' AND finished_at IS NULL
"""

_PARKED = """
SELECT i.consumer, count(*),
    (array_agg(o.kind ORDER BY o.seq))[1], (array_agg(o.id ORDER BY o.seq))[1]
FROM {schema}.inbox AS i JOIN {schema}.outbox AS o ON o.id = i.message_id
WHERE i.state = 'parked'
GROUP BY i.consumer ORDER BY count(*) DESC, i.consumer
"""

_PENDING = """
SELECT consumer, count(*),
    count(*) FILTER (WHERE due_at < now() - %(overdue)s::interval),
    clock_timestamp() - min(due_at),
    coalesce(bool_or(due_at < now() - %(overdue)s::interval
                     AND ring_at < now() - %(unrung)s::interval), false)
FROM {schema}.inbox WHERE state = 'pending'
GROUP BY consumer ORDER BY min(due_at)
"""

# What the workers that met it could not handle: another release's, during a deploy.
_LEFT = """
SELECT count(*), (array_agg(o.kind || ' at ' || i.consumer ORDER BY o.seq))[1],
    (array_agg(i.last_error ORDER BY o.seq))[1],
    coalesce(min(o.sent_at) < now() - %(old)s::interval, false)
FROM {schema}.inbox AS i JOIN {schema}.outbox AS o ON o.id = i.message_id
WHERE i.state = 'pending' AND i.outcome = 'unhandled'
"""

#: Longer than a deploy takes.
_DEPLOY = timedelta(minutes=10)


def check_left(connection: Connection, schema: str) -> Finding:
    """Look for deliveries that wait for a worker of another release."""
    unit = SqlAlchemyUnitOfWork(connection)
    [(count, first, error, old)] = query(unit, schema, _LEFT, old=_DEPLOY)
    if not count:
        return fine("other releases", "no delivery waits for another one")
    found = f"{_many(count, 'delivery', 'deliveries')} left for a worker that can, {first}: {error}"
    say = wrong if old else note
    return say("other releases", found, "start a worker of the release that can handle it")


#: Runs in a row that gave way to the database, from which on it is told.
_OFTEN = 5

_YIELDING = """
SELECT count(*) OVER (), i.consumer, o.kind, o.id, i.yields, i.last_error
FROM {schema}.inbox AS i JOIN {schema}.outbox AS o ON o.id = i.message_id
WHERE i.state = 'pending' AND i.yields >= %(often)s
ORDER BY i.yields DESC, o.seq
LIMIT 1
"""


def check_stuck(connection: Connection, schema: str, words: Words) -> Finding:
    """Look for sagas that wait for a person."""
    [(count, first, since)] = query(SqlAlchemyUnitOfWork(connection), schema, _STUCK)
    if not count:
        return fine("stuck sagas", "none")
    found = f"{_many(count, 'saga')} stuck, {first} for {duration(since)}"
    return wrong("stuck sagas", found, f"`{words.program} show {first}` says why")


def check_parked(connection: Connection, schema: str, words: Words) -> Finding:
    """Look for deliveries that failed for good."""
    rows = query(SqlAlchemyUnitOfWork(connection), schema, _PARKED)
    if not rows:
        return fine("parked deliveries", "none")
    counts = ", ".join(f"{count:,} at {consumer}" for consumer, count, *_ in rows)
    _, _, kind, id = rows[0]
    return wrong(
        "parked deliveries", counts, f"`{words.program} trace {id}` shows why {kind} failed"
    )


def check_pending(
    connection: Connection, schema: str, here: Sequence[str] | None, words: Words
) -> Iterator[Finding]:
    """Look for work that nobody does.

    `here` are the consumers that the given application has; None without an application.
    """
    rows = query(
        SqlAlchemyUnitOfWork(connection), schema, _PENDING, overdue=OVERDUE, unrung=_UNRUNG
    )
    late = [row for row in rows if row[2]]
    if late:
        consumer, _, _, longest, _ = late[0]
        found = f"{_many(sum(row[2] for row in late), 'delivery', 'deliveries')} overdue"
        found += f", the oldest at {consumer} for {duration(longest)}"
        yield wrong("overdue deliveries", found, "are enough workers running?")
    else:
        pending = sum(row[1] for row in rows)
        yield fine("overdue deliveries", f"none, {pending:,} pending" if pending else "none")
    left = [consumer for consumer, *_, unrung in rows if unrung]
    if left:
        names = ", ".join(left)
        foreign = [name for name in left if here is not None and name not in here]
        remedy = f"start one with `{words.program} worker`"
        if foreign:
            remedy = f"{', '.join(foreign)} is not part of this app: start the one that has it"
            gone = next((name for name in foreign if "." not in name), None)  # a saga has a dot
            if gone is not None:
                remedy += (
                    f"; if none has, `{words.program} unsubscribe {gone} --reason WHY` ends it"
                )
        yield wrong("workers", f"no worker serves {names}", remedy)
    else:
        yield fine("workers", "every inbox with work has a worker")


def check_running(connection: Connection, schema: str, longer: timedelta = LONG) -> Finding:
    """Look for handlers that run for longer than this."""
    found = running(SqlAlchemyUnitOfWork(connection), schema, longer=longer)
    if not found:
        return fine("long runs", "none")
    remedy = "its worker's log says where it is; SAGA_HANDLER_LIMIT ends it"
    return note("long runs", f"{_many(len(found), 'run')} long, {found[0]}", remedy)


def check_yielding(connection: Connection, schema: str, words: Words) -> Finding:
    """Look for deliveries that the database ends again and again."""
    rows = query(SqlAlchemyUnitOfWork(connection), schema, _YIELDING, often=_OFTEN)
    if not rows:
        return fine("giving way", "none")
    count, consumer, kind, id, times, error = rows[0]
    text = " ".join((error or "").split())
    found = f"{_many(count, 'delivery', 'deliveries')} run again and again without being counted, "
    found += f"{kind} at {consumer} {times} times: {text[:200]}"
    return note("giving way", found, f"`{words.program} trace {id}` shows it")


def check_backfills(connection: Connection, schema: str, words: Words) -> Finding:
    """Look for contexts whose live events wait for past ones."""
    begun = [b for b in backfills(SqlAlchemyUnitOfWork(connection), schema) if not b.finished_at]
    if not begun:
        return fine("backfills", "none under way")
    found = ", ".join(f"{b.consumer} is read up to {b.reached:,} of {b.until:,}" for b in begun)
    command = f"{words.program} backfill {begun[0].consumer} --reason WHY"
    remedy = f"if it is not running, `{command}` goes on with it"
    return note("backfills", f"live events wait: {found}", remedy)


def _many(count: int, one: str, more: str | None = None) -> str:
    return f"1 {one} is" if count == 1 else f"{count:,} {more or one + 's'} are"
