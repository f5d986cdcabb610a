"""Bulk: one act on many, each in a transaction of its own, a few canaries first.

So a refusal, or a kill in between, leaves what was done before it done, with its audit.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from boundary.acts import Acted
from boundary.operator.query import query
from boundary.runtime import Runtime
from internals.unit_of_work import Row
from saga.errors import SagaError
from saga.state import Status

#: Seconds between two looks at the canaries.
_BETWEEN_LOOKS = 0.2

_STATUSES = "SELECT id, status, reason FROM {schema}.saga WHERE id = ANY (%(ids)s)"
_DELIVERED = """
SELECT message_id, state, last_error FROM {schema}.inbox
WHERE message_id = ANY (%(ids)s) AND consumer NOT LIKE 'saga.%%'
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What is acted on: a saga, or a parked message."""

    id: UUID
    #: What an operator calls it.
    label: str


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to a target; nothing more is known of a message."""

    target: Target
    acted: Acted | None = None


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
Act = Callable[[UUID], Acted | None]


def do_next(report: Report, act: Act, count: int | None = None) -> Iterable[Target]:
    """Act on the targets that are left until `count` are done, or on all; yields each one.

    What is refused is recorded, and the next one is turned to.
    """
    aim = None if count is None else len(report.done) + count
    for target in report.rest:
        if aim is not None and len(report.done) >= aim:
            return
        try:
            report.done.append(Done(target, act(target.id)))
        except SagaError as error:
            report.refused.append(Refusal(target, str(error)))
        yield target


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of one canary."""

    id: UUID
    #: Why it has gone wrong; None if it has not.
    wrong: str | None
    over: bool


def look_at_sagas(runtime: Runtime, ids: Sequence[UUID]) -> list[Look]:
    """See what has become of sagas."""
    return [
        Look(
            id,
            f"got stuck again ({reason})" if status == Status.STUCK else None,
            Status(status).final,
        )
        for id, status, reason in _read(runtime, _STATUSES, ids)
    ]


def look_at_deliveries(runtime: Runtime, ids: Sequence[UUID]) -> list[Look]:
    """See what has become of messages' deliveries."""
    return [
        Look(id, f"is parked again ({error})" if state == "parked" else None, state != "pending")
        for id, state, error in _read(runtime, _DELIVERED, ids)
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
    labels = {done.target.id: done.target.label for done in report.done}
    deadline = time.monotonic() + wait
    while True:
        seen = look(runtime, list(labels))
        for canary in seen:
            if canary.wrong is not None:
                label = labels[canary.id]
                report.stopped = f"{label} {canary.wrong}, so {_others(report)} not touched"
                return
        under_way = [labels[canary.id] for canary in seen if not canary.over]
        if not under_way:
            return
        if time.monotonic() >= deadline:
            report.stopped = (
                f"{under_way[0]} is still under way after {wait:g} s, so {_others(report)} not "
                "touched; give it longer with --wait, or go on without canaries: --canary 0"
            )
            return
        _pause()


def _read(runtime: Runtime, sql: str, ids: Sequence[UUID]) -> Sequence[Row]:
    opened = runtime.database.open()
    try:
        return query(opened.unit, runtime.settings.db_schema, sql, ids=list(ids))
    finally:
        opened.roll_back()


def _others(report: Report) -> str:
    count = report.untouched
    return f"the other {count} are" if count != 1 else "the other one is"


def _pause() -> None:
    time.sleep(_BETWEEN_LOOKS)
