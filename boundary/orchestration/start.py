"""Starting sagas: in the caller's transaction, once for each business key."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from boundary.orchestration.saga_rows import data_to_json, saga_record
from internals.database.errors import storable
from internals.database.unit_of_work import UnitOfWork
from internals.ids import uuid7
from internals.store.json_rows import records
from internals.store.outbox import Heard, Outbox
from internals.store.sql import Statements
from internals.work import Work, depth_here, handling
from saga.decide import Decision, decide, start_message
from saga.definition import Saga
from saga.envelope import Envelope
from saga.errors import DefinitionError, KeyConflict, PayloadError
from saga.json_text import dump_json, read_json
from saga.state import SagaState
from saga.validation.functions import check_returned

D = TypeVar("D", bound=BaseModel)

#: A start is the first message that its saga consumes.
_FIRST = Heard(position=1)


class Starter:
    """Writes new sagas, with their first commands.  Stateless; safe to share between threads."""

    def __init__(self, outbox: Outbox, statements: Statements) -> None:
        self._outbox = outbox
        self._statements = statements

    def start(
        self,
        unit: UnitOfWork,
        saga: Saga[D],
        items: Sequence[D],
        keys: Sequence[str | None],
    ) -> tuple[list[UUID], set[str]]:
        """Start a saga for each item; all of them or none.

        The start is decided at once, so the first commands are written by the same statements.  In a
        handler the message that it handles is what caused it, and the saga's id follows from that,
        so that a run which is repeated starts the same saga.

        Returns the ids, in the order of the items (for a key that was started before with the
        same data, the earlier id), and the consumers whose doorbells the caller rings.

        Raises:
            KeyConflict: A key was started before, with other data.
            PayloadError: The data or a first command cannot be stored.
            TooDeep: In a handler: sagas start each other, in a cycle.
        """
        depth = depth_here()
        self._outbox.check_depth(depth, f"the start of {saga.name}")
        work = handling()
        if work is not None and not work.writes_with(unit.connection):
            work = None
        begun = [
            _begin(saga, item, key, work, depth) for item, key in zip(items, keys, strict=True)
        ]
        by_id = {decision.state.id: index for index, (_, decision) in enumerate(begun)}
        with unit.savepoint():
            inserted = self._insert(unit, saga, [d.state for _, d in begun], keys)
            ids = list(by_id)
            for index, id in self._started_before(unit, saga, begun, keys, inserted).items():
                ids[index] = id
            new = [begun[by_id[id]] for id in by_id if id in inserted]
            starts = [start for start, _ in new]
            commands = [command for _, decision in new for command in decision.send]
            # A start is consumed with the sending: recorded as done, never delivered.
            heard = {start.id: _FIRST for start in starts}
            return ids, self._outbox.send(unit, [*starts, *commands], heard)

    def _insert(
        self,
        unit: UnitOfWork,
        saga: Saga[D],
        states: Sequence[SagaState[D]],
        keys: Sequence[str | None],
    ) -> set[UUID]:
        rows = unit.run(
            self._statements.insert_sagas,
            {
                "sagas": records(
                    {"key": key, **saga_record(state, data_to_json(state))}
                    for state, key in zip(states, keys, strict=True)
                ),
                "name": saga.name,
                "version": saga.version,
            },
        )
        return {id for (id,) in rows}

    def _started_before(
        self,
        unit: UnitOfWork,
        saga: Saga[D],
        begun: Sequence[tuple[Envelope, Decision[D]]],
        keys: Sequence[str | None],
        inserted: set[UUID],
    ) -> dict[int, UUID]:
        """Map the index of each item whose key is taken to the saga that has it."""
        taken = [i for i, (_, d) in enumerate(begun) if d.state.id not in inserted]
        if not taken:
            return {}
        rows = unit.run(
            self._statements.started_before,
            {
                "name": saga.name,
                "item": taken,
                "key": [keys[i] for i in taken],
                "payload": [begun[i][0].payload for i in taken],
            },
        )
        stored = {item: (id, same, text) for item, id, same, text in rows}
        # A key that this very call starts has no start message yet; its data is compared here.
        first = {keys[i]: begun[i] for i in range(len(begun)) if begun[i][1].state.id in inserted}
        found: dict[int, UUID] = {}
        for i in taken:
            key, payload = keys[i], begun[i][0].payload
            assert key is not None  # without a key nothing can be taken
            if key in first:
                start, decision = first[key]
                id, same = decision.state.id, _same_json(start.payload, payload)
            else:
                id, same, text = stored[i]
                same = same or _same_data(saga, text, payload)
            if not same:
                raise KeyConflict(
                    f"{saga.name} {key!r} was started before with other data, as saga {id}; "
                    "use another key, or the same data"
                )
            found[i] = id
        return found


def _same_data(saga: Saga[D], stored: str, given: str) -> bool:
    """Whether a saga was started with what is the same data to the present class.

    It may have been written by a release whose class had fewer fields, or more.
    """
    try:
        read = dump_json(read_json(saga.data, stored), "the stored data")
    except (ValidationError, PayloadError):
        return False
    return _same_json(read, given)


def _same_json(one: str, other: str) -> bool:
    """Whether two texts say the same; the order of a mapping's keys says nothing."""
    return one == other or bool(json.loads(one) == json.loads(other))


def business_key(saga: Saga[D], data: D, key: str | None) -> str | None:
    """Return the key to start with: the one given, or the definition's; None means none.

    Raises `DefinitionError` for a key that is not a text of 1 to 200 characters.
    """
    if key is None and saga.key is not None:
        key = saga.key(data)
        check_returned(key, f"{saga.name}: key")
    if key is not None and not (isinstance(key, str) and 1 <= len(key) <= 200):
        raise DefinitionError(
            f"{saga.name}: a business key is a text of 1 to 200 characters, not {key!r}"
        )
    if key is not None and storable(key) != key:
        raise DefinitionError(
            f"{saga.name}: the business key {key!r} has a NUL character or a lone surrogate, "
            "which Postgres refuses"
        )
    return key


def _begin(
    saga: Saga[D], data: D, key: str | None, work: Work | None, depth: int
) -> tuple[Envelope, Decision[Any]]:
    if not isinstance(data, saga.data):
        raise TypeError(f"{saga.name} takes a {saga.data.__name__}, not {type(data).__name__}")
    if work is None:
        id = uuid7()
    else:
        id, _ = work.message.ids_below(work.name_start(saga.name, key))
    state = SagaState(id=id, data=data)
    message = replace(start_message(saga, state.id, data), depth=depth)
    decision = decide(saga, state, message)
    return message if work is None else _caused(message, work), decision


def _caused(start: Envelope, work: Work) -> Envelope:
    """The start of a saga by a handler: it hangs below the message, and no step waits for it."""
    return replace(start, causation_id=work.message.id, sender=work.consumer)
