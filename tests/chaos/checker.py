"""The checker: reads tables, the ledger and the gateway's log, and tells what does not hold.

It trusts nothing that the workers said, and what it finds is told in sentences.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from boundary.operations.consistency import differences
from examples.travel.checks import Check, judge
from examples.travel.record import check_record
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.sql import statements
from tests.chaos.acts import unaudited
from tests.chaos.effects import Ended, read_effects
from tests.chaos.partners import disagreements
from tests.chaos.subjects import TRIPS, Evidence, Facts, Subject

#: Of the sagas, so many have to compensate, or the run proves little.
LEAST_COMPENSATED = 0.2

#: Of the demo's checks, those that hold for the tables of any application.
_SHARED = frozenset({"outbox_drained", "no_orphans"})


@dataclass(frozen=True, slots=True)
class Findings:
    """What the checker found."""

    statuses: Mapping[str, int]
    lost: int
    double_effects: int
    checks: tuple[Check, ...] = field(default=())


def inspect(
    connection: Connection,
    schema: str,
    evidence: Evidence,
    apart: Connection | None = None,
    *,
    subject: Subject = TRIPS,
) -> Findings:
    """Check everything that a finished run has to fulfil; only reads.

    The ledger's tables are found on the connections' search paths.

    Args:
        connection: To the database that has the sagas.
        schema: Of the framework's tables.
        evidence: What is known from outside.
        apart: To the partners' database, if they have one of their own.
        subject: What the run was about.
    """
    saga = subject.saga
    ended = _read_ended(connection, schema, saga.name)
    both = [connection] if apart is None else [connection, apart]
    effects = read_effects(*both)
    lost = list(_lost(evidence, ended))
    facts = Facts(connection, both, schema, ended, effects, evidence)
    problems: Mapping[str, Iterable[str]] = {
        "nothing_lost": lost,
        "starts_answered_alike": sorted(evidence.contradicted),
        "every_saga_ended": _not_ended(ended),
        "none_stuck": _stuck(connection, schema),
        "audit_complete": unaudited(connection, schema, evidence.cancelled),
        **subject.problems(facts),
        "history_folds_to_state": differences(
            SqlAlchemyUnitOfWork(connection),
            statements(schema),
            {saga.name: {saga.version: saga}},
        ),
        "history_has_no_gaps": _gaps(connection, schema),
        "everyone_addressed_got_it": _undelivered(connection, schema),
        "inbox_drained": _undone(connection, schema),
        "enough_compensated": _too_few_compensated(ended),
    }
    if apart is not None:
        problems = {**problems, "databases_agree": disagreements(connection, apart, schema)}
    return Findings(
        statuses=Counter(saga.status for saga in ended.values()),
        lost=len(lost),
        double_effects=subject.doubled(facts),
        checks=(
            *(judge(name, iter(lines)) for name, lines in problems.items()),
            *(check for check in check_record(connection, schema) if check.name in _SHARED),
        ),
    )


def _read_ended(connection: Connection, schema: str, name: str) -> dict[str, Ended]:
    rows = connection.execute(
        text(
            f"""SELECT key, id, status,
                       (SELECT jsonb_object_agg(step.key, step.value->'generation')
                        FROM jsonb_each(steps::jsonb) AS step)
                FROM {schema}.saga WHERE name = :name"""
        ),
        {"name": name},
    )
    return {key: Ended(id, status, generations or {}) for key, id, status, generations in rows}


def _lost(evidence: Evidence, ended: Mapping[str, Ended]) -> Iterator[str]:
    for key, id in evidence.acknowledged.items():
        if key not in ended:
            yield f"{key} was acknowledged as saga {id}, and is not there"
        elif ended[key].saga_id != id:
            yield f"{key} was acknowledged as saga {id}, and is saga {ended[key].saga_id}"


def _not_ended(ended: Mapping[str, Ended]) -> Iterator[str]:
    over = ("completed", "compensated", "stuck")
    return (f"{key} is {s.status}" for key, s in ended.items() if s.status not in over)


def _stuck(connection: Connection, schema: str) -> Iterator[str]:
    """No trip has a reason to be stuck; one that is, and does not say why, is worse."""
    stuck = text(f"SELECT key, reason FROM {schema}.saga WHERE status = 'stuck'")
    for key, reason in connection.execute(stuck):
        yield f"{key} is stuck: {reason}" if reason else f"{key} is stuck without a reason"


def _gaps(connection: Connection, schema: str) -> Iterator[str]:
    rows = connection.execute(
        text(
            f"""SELECT g.key, g.consumed, count(i.position), count(DISTINCT i.position),
                       max(i.position)
                FROM {schema}.saga AS g
                LEFT JOIN {schema}.inbox AS i
                    ON i.saga_id = g.id AND i.consumer = 'saga.' || g.name
                GROUP BY g.id
                HAVING (count(i.position), count(DISTINCT i.position), max(i.position))
                    IS DISTINCT FROM (g.consumed, g.consumed, g.consumed)"""
        )
    )
    for key, consumed, *found in rows:
        yield f"{key} consumed {consumed} messages; numbered, distinct and last are {found}"


def _undelivered(connection: Connection, schema: str) -> Iterator[str]:
    """Every consumer that a message goes to has a delivery of it, however it went since."""
    rows = connection.execute(
        text(
            f"""SELECT o.kind, a.consumer, count(*)
                FROM {schema}.outbox AS o
                CROSS JOIN LATERAL (
                    SELECT o.recipient AS consumer WHERE o.recipient IS NOT NULL
                    UNION
                    SELECT s.consumer FROM {schema}.subscription AS s
                    WHERE o.category = 'event' AND s.kind = o.kind
                    UNION
                    SELECT 'saga.' || o.saga
                    WHERE o.category = 'event' AND o.kind = ANY (o.awaits)
                ) AS a
                LEFT JOIN {schema}.inbox AS i ON i.message_id = o.id AND i.consumer = a.consumer
                WHERE i.message_id IS NULL
                GROUP BY o.kind, a.consumer"""
        )
    )
    for kind, consumer, count in rows:
        yield f"{count} of {kind} were never delivered to {consumer}"


def _undone(connection: Connection, schema: str) -> Iterator[str]:
    """Deliveries that are not done, with what is known of why."""
    rows = connection.execute(
        text(
            f"""SELECT o.kind, i.consumer, i.state, count(*), min(i.last_error)
                FROM {schema}.inbox AS i LEFT JOIN {schema}.outbox AS o ON o.id = i.message_id
                WHERE i.state NOT IN ('done', 'revoked') GROUP BY o.kind, i.consumer, i.state"""
        )
    )
    for kind, consumer, state, count, error in rows:
        yield f"{count} of {kind} at {consumer} are {state} ({error})"


def _too_few_compensated(ended: Mapping[str, Ended]) -> Iterator[str]:
    compensated = sum(saga.status == "compensated" for saga in ended.values())
    if compensated < LEAST_COMPENSATED * len(ended) or not ended:
        yield f"only {compensated} of {len(ended)} compensated"
