"""Outbox: messages are sent by writing them down, in the transaction of what caused them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from internals.ordering_keys import unfit
from internals.records import Raw, Value, records
from internals.settling import Settling
from internals.statements import Statements
from internals.unit_of_work import Row, UnitOfWork
from saga.envelope import Envelope
from saga.errors import PayloadError
from saga.retry import Retry

#: Bytes of JSON that one payload may have, unless the settings say otherwise.
DEFAULT_MAX_PAYLOAD = 256 * 1024


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
    ) -> None:
        self._statements = statements
        #: Counts deliveries, where a saga wants to know of them.
        self.settling = Settling(statements, grace=grace)
        #: Seconds that a delivery may wait before the relay rings for it.
        self._grace = grace
        self._max_payload = max_payload

    def send(
        self,
        unit: UnitOfWork,
        messages: Sequence[Envelope],
        heard: Mapping[UUID, Heard] = _NOTHING,
    ) -> set[str]:
        """Write these messages and one delivery for each consumer they go to.

        Of those in `heard` the saga's delivery is done with the sending.

        Returns the consumers that got something due now; their doorbells are to be rung after
        the commit.  A message whose id was sent before is dropped, and that noted with it.  Raises
        `PayloadError` for one that is too large, or has too long an ordering key; nothing is written
        then.
        """
        if not messages:
            return set()
        try:
            rows = unit.run(self._statements.send, self.parameters(messages, heard))
        except Exception as error:
            if (refused := unfit(error)) is not None:
                raise refused from error
            raise
        new = {id for _, id in rows if id is not None}
        repeats = Counter(message.id for message in messages) - Counter(new)
        for id, times in sorted(repeats.items()):  # two who send the same again wait in one order
            unit.run(self._statements.repeat, {"id": id, "times": times})
        # The deliveries of a message that was sent before were counted then.
        sent = [message for message in messages if message.id in new]
        return woken(rows) | self.settling.count(unit, sent, ())

    def parameters(
        self, messages: Iterable[Envelope], heard: Mapping[UUID, Heard] = _NOTHING
    ) -> dict[str, object]:
        """Return what the statements that send these messages take.

        Of those in `heard` the saga's delivery is done with the sending.  Raises `PayloadError` for
        one that is too large.
        """
        once = {message.id: message for message in messages}.values()
        for message in once:
            self.check(message)
        return {
            "messages": records(_record(message, heard) for message in once),
            "grace": self._grace,
        }

    def check(self, message: Envelope) -> None:
        """Raise `PayloadError` if the payload has more bytes than the limit."""
        size = len(message.payload.encode())
        if size > self._max_payload:
            raise PayloadError(
                f"{message.kind}: the payload has {size:,} bytes and the limit is "
                f"{self._max_payload:,}; keep the data elsewhere and send its key"
            )


def woken(rows: Iterable[Row]) -> set[str]:
    """Return the consumers that got something due now, from what such a statement returned."""
    return {consumer for consumer, *_ in rows if consumer is not None}


def _record(message: Envelope, heard: Mapping[UUID, Heard]) -> dict[str, Value]:
    retry = retry_to_json(message.retry)
    by_now = heard.get(message.id) if heard else None
    return {
        "position": None if by_now is None else by_now.position,
        "note": None if by_now is None else by_now.note,
        "id": message.id,
        "kind": message.kind,
        "category": message.category.value,
        "payload": Raw(message.payload),
        "saga_id": message.saga_id,
        "saga": message.saga,
        "causation_id": message.causation_id,
        "root_id": message.root_id or message.id,
        "recipient": message.recipient,
        "sender": message.sender,
        "awaits": ",".join(message.awaits) or None,
        "retry": None if retry is None else Raw(retry),
        "delay": message.delay or None,
    }


def retry_to_json(retry: Retry | None) -> str | None:
    """Return a policy as it is stored with a message."""
    if retry is None:
        return None
    return json.dumps(
        {
            "attempts": retry.attempts,
            "backoff": retry.backoff.total_seconds(),
            "cap": retry.cap.total_seconds(),
            "never": retry.never,
            "always": retry.always,
        }
    )


def retry_from_json(text: str | None) -> Retry | None:
    """Read what `retry_to_json` wrote."""
    if text is None:
        return None
    stored = json.loads(text)
    return Retry(
        attempts=stored["attempts"],
        backoff=timedelta(seconds=stored["backoff"]),
        cap=timedelta(seconds=stored["cap"]),
        never=tuple(stored.get("never", ())),
        always=tuple(stored.get("always", ())),
    )
