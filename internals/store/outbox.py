"""Outbox: messages are sent by writing them down, in the transaction of what caused them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from internals.database.lock_waits import KEY_WAIT
from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.json_rows import Value, records
from internals.store.message_columns import to_record
from internals.store.message_identity import by_id, conflict, identity, refuse_others
from internals.store.open_deliveries import OpenDeliveries
from internals.store.ordering import LateKeys, OrderedDeliveries
from internals.store.ordering_keys import unfit
from internals.store.sql import Statements
from saga.envelope import Envelope
from saga.errors import PayloadError, TooDeep

#: Bytes of JSON that one payload may have, unless the settings say otherwise.
DEFAULT_MAX_PAYLOAD = 256 * 1024

#: Messages that may lie one below the other, unless the settings say otherwise: whatever is deeper
#: is a cycle of handlers that set each other off.
DEFAULT_MAX_DEPTH = 1000


@dataclass(frozen=True, slots=True)
class Heard:
    """How a saga consumed a message in the transaction that sends it."""

    #: How-manieth message the saga consumed.
    position: int
    #: What is to be said of it, such as that it came late.
    note: str | None = None


_NOTHING: Mapping[UUID, Heard] = {}


class Outbox:
    """Writes messages and their deliveries.  Stateless; safe to share between threads."""

    def __init__(
        self,
        statements: Statements,
        *,
        grace: float,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
        max_depth: int = DEFAULT_MAX_DEPTH,
        late: LateKeys | None = None,
    ) -> None:
        self._statements = statements
        #: Counts deliveries, where a saga wants to know of them.
        self.open_deliveries = OpenDeliveries(
            statements, OrderedDeliveries(statements, grace=grace, late=late)
        )
        #: Seconds that a delivery may wait before the relay rings for it.
        self._grace = grace
        self._max_payload = max_payload
        self._max_depth = max_depth

    def send(
        self,
        unit: UnitOfWork,
        messages: Sequence[Envelope],
        heard: Mapping[UUID, Heard] = _NOTHING,
    ) -> set[str]:
        """Write these messages and one delivery for each consumer they go to.

        Of those in `heard` the saga's delivery is done with the sending.

        Returns the consumers that got something due now: the caller rings their doorbells after
        the commit.  A message whose id was sent before is dropped, and that noted with it.  Raises
        `PayloadError` for one that is too large, or has too long an ordering key, when nothing is
        written, and `IdConflict` for one whose id another message has.
        """
        if not messages:
            return set()
        try:
            rows = unit.run(self._statements.send, self.parameters(messages, heard, key_wait=None))
        except Exception as error:
            if (refused := unfit(error)) is not None:
                raise refused from error
            raise
        new = {id for *_, id in rows if id is not None}
        repeats = Counter(message.id for message in messages) - Counter(new)
        if repeats:
            self._note(unit, repeats, messages)
        # The deliveries of a message that was sent before were counted then.
        sent = [message for message in messages if message.id in new]
        got = woken(rows) | self.open_deliveries.count(unit, sent, ())
        return got | self.open_deliveries.wake(unit, held_up(rows))

    def _note(
        self, unit: UnitOfWork, repeats: Mapping[UUID, int], messages: Sequence[Envelope]
    ) -> None:
        """Note with messages how often they were sent again, if they are the same."""
        named, others = by_id(messages), []
        for id, times in sorted(repeats.items()):  # two who send the same again wait in one order
            asked = {**identity(named[id]), "times": times}
            if not unit.run(self._statements.repeat, asked):
                others.append(named[id])
        if others:
            raise conflict(unit, self._statements, others)

    def refuse_others(
        self, unit: UnitOfWork, rows: Iterable[Row], messages: Iterable[Envelope]
    ) -> None:
        """Raise `IdConflict` for messages whose ids other ones have; free if all ids were new.

        Args:
            unit: The transaction.
            rows: What the statement returned that sent them.
            messages: What was sent.
        """
        if known := {id for *_, id in rows if id is not None}:
            sent = by_id(messages)
            refuse_others(unit, self._statements, [sent[id] for id in sorted(known)])

    def parameters(
        self,
        messages: Iterable[Envelope],
        heard: Mapping[UUID, Heard] = _NOTHING,
        *,
        key_wait: str | None = KEY_WAIT,
    ) -> dict[str, object]:
        """Return what the statements that send these messages take.

        Of those in `heard` the saga's delivery is done with the sending.  `key_wait` is how long an
        ordering key is waited for, if that is another time than the transaction's.  Raises
        `PayloadError` for one that is too large.
        """
        once = by_id(messages).values()
        for message in once:
            self.check(message)
        return {
            "messages": records(_record(message, heard) for message in once),
            "grace": self._grace,
            "key_wait": key_wait,
        }

    def admit(self, sent: Iterable[Envelope]) -> None:
        """Look at what a handler sends; raises `PayloadError` as `check` does, and `TooDeep`."""
        for message in sent:
            self.check(message)
            self.check_depth(message.depth, message.kind)

    def check_depth(self, depth: int, kind: str) -> None:
        """Raise `TooDeep` if a message that a handler sends is one too many below the others."""
        if depth > self._max_depth:
            raise TooDeep(
                f"{kind} would be message {depth:,} in a row of messages that caused each other, "
                f"and the limit is {self._max_depth:,}; look for a cycle of handlers, or raise "
                "SAGA_MAX_DEPTH"
            )

    def check(self, message: Envelope) -> None:
        """Raise `PayloadError` if the payload has more bytes than the limit."""
        self.check_size(message.payload, f"{message.kind}: the payload")

    def check_size(self, text: str, of: str) -> None:
        """Raise `PayloadError` if what is to be stored has more bytes than a payload may have.

        Args:
            text: What is to be stored.
            of: What it is, to begin a sentence with.
        """
        size = len(text.encode())
        if size > self._max_payload:
            raise PayloadError(
                f"{of} has {size:,} bytes and the limit is {self._max_payload:,}; keep the data "
                "elsewhere and send its key"
            )


def woken(rows: Iterable[Row]) -> set[str]:
    """Return the consumers that got something due now, from what such a statement returned."""
    return {consumer for consumer, *_ in rows if consumer is not None}


def held_up(rows: Iterable[Row]) -> set[str]:
    """Return the ordering keys for which such a statement saw an open delivery before its own.

    That one may have been settled while the statement waited for the publishers before it.
    """
    keys = {key for _, key, *_ in rows if key is not None}
    if keys:
        keys -= {key for consumer, key, *_ in rows if consumer is not None}
    return keys


def _record(message: Envelope, heard: Mapping[UUID, Heard]) -> dict[str, Value]:
    record = to_record(message)
    if message.delay:
        record["delay"] = message.delay
    if heard and (by_now := heard.get(message.id)) is not None:
        record["position"] = by_now.position
        record["note"] = by_now.note
    return record
