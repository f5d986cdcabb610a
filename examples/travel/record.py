"""The record: what the framework's own tables tell of the demo, and checks that read them."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

from boundary.operations.consistency import differences
from examples.travel.booking import BOOK_TRIP
from examples.travel.checks import Check, judge
from examples.travel.disruption import REBOOK_TRIP
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.sql import statements

# The message with which a saga's first step was refused: an event tells it by its kind, a handler
# that raised by the command it was given.
_REJECTIONS = """
SELECT rejection, count(*) AS trips FROM (
    SELECT DISTINCT ON (s.id) s.id,
        CASE WHEN m.kind = 'saga.rejected' THEN cause.kind
             ELSE concat_ws(': ', m.kind, m.payload->>'reason') END AS rejection
    FROM {schema}.saga AS s
    JOIN {schema}.inbox AS i ON i.saga_id = s.id AND i.position IS NOT NULL
    JOIN {schema}.outbox AS m ON m.id = i.message_id
    LEFT JOIN {schema}.outbox AS cause ON cause.id = m.causation_id
    WHERE s.name = :name AND s.status = 'compensated' AND m.kind = ANY (:kinds)
    ORDER BY s.id, i.position
) AS first GROUP BY rejection ORDER BY rejection
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the demo is."""

    #: Trips whose booking is over.
    booked: int
    #: Sagas that are over, and those that are not.
    finished: int
    unfinished: int
    #: Deliveries that are not done.
    pending: int


def read_standing(connection: Connection, schema: str) -> Standing:
    """Count finished and unfinished sagas and pending deliveries."""
    found = connection.execute(
        text(
            f"""SELECT count(*) FILTER (WHERE finished_at IS NOT NULL AND name = :name),
                       count(*) FILTER (WHERE finished_at IS NOT NULL),
                       count(*) FILTER (WHERE finished_at IS NULL),
                       (SELECT count(*) FROM {schema}.inbox WHERE state = 'pending')
                FROM {schema}.saga"""
        ),
        {"name": BOOK_TRIP.name},
    ).one()
    return Standing(*found)


def read_statuses(connection: Connection, schema: str) -> dict[str, str]:
    """Return the status of each trip's saga, by the trip's reference."""
    rows = connection.execute(
        text(f"SELECT key, status FROM {schema}.saga WHERE name = :name"), {"name": BOOK_TRIP.name}
    )
    return {row.key: row.status for row in rows}


def read_rejections(connection: Connection, schema: str) -> dict[str, int]:
    """Return how many trips were compensated, by what was refused first."""
    kinds = ["saga.rejected", *(event.kind for step in BOOK_TRIP for event in step.rejections)]
    rows = connection.execute(
        text(_REJECTIONS.format(schema=schema)), {"kinds": kinds, "name": BOOK_TRIP.name}
    )
    return {row.rejection: row.trips for row in rows}


def read_example(connection: Connection, schema: str, name: str, status: str) -> str | None:
    """Return the key of the saga of this name and status with the most messages, for its trace."""
    key: str | None = connection.scalar(
        text(
            f"""SELECT key FROM {schema}.saga WHERE name = :name AND status = :status
                ORDER BY consumed DESC, key LIMIT 1"""
        ),
        {"name": name, "status": status},
    )
    return key


def check_record(connection: Connection, schema: str) -> tuple[Check, ...]:
    """Check that all was delivered, that nothing belongs to nobody, and that history is state."""

    def count(statement: str, what: str) -> Iterator[str]:
        found = connection.scalar(text(statement.format(s=schema)))
        if found:
            yield f"{found} {what}"

    history = differences(
        SqlAlchemyUnitOfWork(connection),
        statements(schema),
        {saga.name: {saga.version: saga} for saga in (BOOK_TRIP, REBOOK_TRIP)},
    )
    return (
        judge(
            "inbox_drained",
            count(
                "SELECT count(*) FROM {s}.inbox WHERE state IN ('pending', 'parked')",
                "deliveries not settled",
            ),
        ),
        judge(
            "outbox_drained",
            count(
                """SELECT count(*) FROM {s}.outbox AS o
                   WHERE (recipient IS NOT NULL OR EXISTS (
                              SELECT FROM {s}.subscription AS x WHERE x.kind = o.kind))
                     AND NOT EXISTS (SELECT FROM {s}.inbox AS i WHERE i.message_id = o.id)""",
                "messages were never delivered to anyone",
            ),
        ),
        judge(
            "no_orphans",
            count(
                """SELECT count(*) FROM {s}.inbox AS i
                   LEFT JOIN {s}.outbox AS o ON o.id = i.message_id
                   LEFT JOIN {s}.outbox AS cause ON cause.id = o.causation_id
                   LEFT JOIN {s}.saga AS g ON g.id = o.saga_id
                   WHERE o.id IS NULL OR (o.saga_id IS NOT NULL AND g.id IS NULL)
                      OR (o.causation_id IS NOT NULL AND cause.id IS NULL)""",
                "deliveries without message, cause or saga",
            ),
        ),
        judge("history_folds_to_state", history),
    )
