"""Bulk: one action on many, each in a transaction of its own, a few canaries first.

So a refusal, or a kill in between, leaves what was done before it done, with its audit.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from boundary.orchestration.operator_actions import Acted
from boundary.queries.query import query
from boundary.runtime import Runtime
from boundary.runtime.composition import wiring_of
from internals.database.unit_of_work import Row
from saga.errors import SagaError
from saga.state import Status

#: Seconds between two looks at the canaries.
_BETWEEN_LOOKS = 0.2

_STATUSES = "SELECT id, status, reason FROM {schema}.saga WHERE id = ANY (%(ids)s)"
_DELIVERED = """
SELECT i.message_id, i.consumer, i.state, i.last_error FROM {schema}.inbox AS i
JOIN unnest(%(ids)s::uuid[], %(consumers)s::text[]) AS d (id, consumer)
  ON i.message_id = d.id AND i.consumer = d.consumer
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What is acted on: a saga, or a parked message."""

    id: UUID
    #: What an operator calls it.
    label: str
    #: Of a message, the one consumer whose delivery is meant; None for all where it is parked.
    consumer: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to a target: to a saga, or where a message is delivered again."""

    target: Target
    acted: Acted | None = None
    consumers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was done to a target."""

    target: Target
    why: str


@dataclass(slots=True)
class Report:
    """What became of an act on many; it grows as they are done."""

    targets: Sequence[Target]
    done: list[Done] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    #: Why the rest was not touched.
    stopped: str | None = None

    @property
    def untouched(self) -> int:
        """How many were neither done nor refused."""
        return len(self.targets) - len(self.done) - len(self.refused)

    @property
    def rest(self) -> Sequence[Target]:
        """Those that are to be done yet, in order."""
        return self.targets[len(self.done) + len(self.refused) :]


#: Acts on one target; raises a `SagaError` that says why, if it is refused.
Act = Callable[[Target], Done]


def do_next(report: Report, act: Act, count: int | None = None) -> Iterable[Target]:
    """Act on the targets that are left until `count` are done, or on all; yields each one.

    What is refused is recorded, and the next one is turned to.
    """
    aim = None if count is None else len(report.done) + count
    for target in report.rest:
        if aim is not None and len(report.done) >= aim:
            return
        try:
            report.done.append(act(target))
        except SagaError as error:
            report.refused.append(Refusal(target, str(error)))
        yield target


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of one canary."""

    label: str
    #: Why it has gone wrong; None if it has not.
    wrong: str | None
    over: bool


def look_at_sagas(runtime: Runtime, done: Sequence[Done]) -> list[Look]:
    """See what has become of sagas."""
    labels = {one.target.id: one.target.label for one in done}
    return [
        Look(
            labels[id],
            f"got stuck again ({reason})" if status == Status.STUCK else None,
            Status(status).final,
        )
        for id, status, reason in _read(runtime, _STATUSES, ids=list(labels))
    ]


def look_at_deliveries(runtime: Runtime, done: Sequence[Done]) -> list[Look]:
    """See what has become of the deliveries that were retried.

    Of no others of the same messages: those show nothing of the cause.
    """
    labels = {
        (one.target.id, consumer): one.target.label for one in done for consumer in one.consumers
    }
    ids, consumers = [id for id, _ in labels], [consumer for _, consumer in labels]
    return [
        Look(
            labels[id, consumer],
            f"is parked again ({error})" if state == "parked" else None,
            state != "pending",
        )
        for id, consumer, state, error in _read(runtime, _DELIVERED, ids=ids, consumers=consumers)
    ]


def watch_canaries(
    runtime: Runtime, report: Report, wait: float, look: Callable[..., Sequence[Look]]
) -> None:
    """Wait until what was done so far is over; sets `report.stopped` if it goes wrong.

    Args:
        runtime: Knows the database.
        report: Of what was acted on.
        wait: Seconds after which a canary that is still under way has shown nothing.
        look: `look_at_sagas` or `look_at_deliveries`.
    """
    deadline = time.monotonic() + wait
    while True:
        seen = look(runtime, report.done)
        for canary in seen:
            if canary.wrong is not None:
                report.stopped = f"{canary.label} {canary.wrong}, so {_others(report)} not touched"
                return
        under_way = [canary.label for canary in seen if not canary.over]
        if not under_way:
            return
        if time.monotonic() >= deadline:
            report.stopped = (
                f"{under_way[0]} is still under way after {wait:g} s, so {_others(report)} not "
                "touched; give it longer with --wait, or go on without canaries: --canary 0"
            )
            return
        _pause()


def _read(runtime: Runtime, sql: str, **parameters: object) -> Sequence[Row]:
    opened = wiring_of(runtime).database.open()
    try:
        return query(opened.unit, runtime.settings.db_schema, sql, **parameters)
    finally:
        opened.roll_back()


def _others(report: Report) -> str:
    count = report.untouched
    return f"the other {count} are" if count != 1 else "the other one is"


def _pause() -> None:
    time.sleep(_BETWEEN_LOOKS)
