"""Accepted causes: what an event from outside may belong to, going by the messages that it names.

An event may say that a message of this system caused it.  It joins that message's saga only if the
message has really gone out, by a bridge whose events this one may answer: ids can be computed, and a
message that never left can have been answered by nobody.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from boundary.bridges.cloud_event import CloudEvent, causes, depth, ids
from internals.database.unit_of_work import UnitOfWork
from saga.messages import Event

# Gone out: it was confirmed, or is on its way, which is committed before it is.
_NAMED = """
SELECT o.id, o.kind, o.sender, o.payload::text, o.saga_id, o.saga, o.root_id, o.awaits, o.depth,
    EXISTS (
        SELECT FROM {schema}.inbox AS i
        WHERE i.message_id = o.id AND i.consumer = ANY (%(bridges)s)
          AND (i.state = 'done' OR i.started_at IS NOT NULL))
FROM {schema}.outbox AS o WHERE o.id = ANY (%(id)s::uuid[])
"""


class NotAccepted(Exception):
    """An event can be read, and is not taken as what it says it is."""


@dataclass(frozen=True, slots=True)
class Known:
    """A message of this system that an event names."""

    id: UUID
    kind: str
    sender: str | None
    payload: str
    saga_id: UUID | None
    saga: str | None
    root_id: UUID
    awaits: Sequence[str]
    depth: int
    gone_out: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """The messages that a batch of events names."""

    known: Mapping[UUID, Known]
    #: Names of the outgoing bridges whose events are answered; None where events join no saga.
    bridges: Sequence[str] | None
    #: Sources that may answer; None for all.
    sources: frozenset[str] | None

    def cause(self, event: CloudEvent) -> Known | None:
        """Return the message whose saga the event joins; None if it names none of this system.

        Raises `NotAccepted` for one that it cannot have been caused by.
        """
        if self.bridges is None:
            return None
        named = [self.known[id] for id in causes(event) if id in self.known]
        if not named:
            return None
        found = next((known for known in named if known.gone_out), None)
        if found is None:
            by = f"by {', '.join(self.bridges)}" if self.bridges else "by a bridge of this program"
            raise NotAccepted(
                f"it says that {named[0].kind} {named[0].id} caused it, which never went out {by}, so "
                "nobody outside can have answered it; joins_sagas names the bridges that are answered"
            )
        source = event.attributes["source"]
        if self.sources is not None and source not in self.sources:
            raise NotAccepted(
                f"it says that {found.kind} {found.id} caused it, and its source {source!r} is none "
                f"of those that may answer: {', '.join(sorted(self.sources))}"
            )
        return found

    def depth(self, event: CloudEvent) -> int:
        """Return how deep an event lies: as it says, and never above what is known to cause it."""
        known = [self.known[id].depth for id in causes(event) if id in self.known]
        return max((depth(event), *known)) + 1

    def own(self, event: CloudEvent, read: Event) -> Known | None:
        """Return the message of this system that has come back; None if it is none.

        Raises `NotAccepted` if it says so, and says something else than went out.
        """
        for id, source in ((i, event.attributes.get(s)) for i, s in _named_as(event)):
            known = self.known.get(id)
            if known is None or (known.kind, known.sender or "host") != (read.kind, source):
                continue
            if type(read).from_json(known.payload) != read:
                raise NotAccepted(
                    f"it has the id of {known.kind} {id}, which was published here, and says "
                    "something else"
                )
            return known
        return None


def _named_as(event: CloudEvent) -> Iterable[tuple[UUID, str]]:
    for name, source in (("originid", "originsource"), ("id", "source")):
        for id in ids(event, name):
            yield id, source


def answers(
    unit: UnitOfWork,
    schema: str,
    events: Sequence[CloudEvent],
    bridges: Sequence[str] | None,
    sources: frozenset[str] | None,
) -> Answers:
    """Look up what these events name; one statement, or none where they name nothing."""
    named = sorted(
        {id for event in events for id in (*causes(event), *ids(event, "id", "originid"))}
    )
    known = {}
    if named:
        asked = {"id": named, "bridges": list(bridges or ())}
        for row in unit.run(_NAMED.format(schema=schema), asked):
            known[row[0]] = Known(*row)
    return Answers(known, bridges, sources)
