"""Claiming and settling, as two workers and two consumers see it."""

import random
import string
from dataclasses import fields
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from internals import Context, Work
from internals.store.delivery import DeliveryOutcome, DeliveryState, Settlement
from internals.store.inbox import Inbox
from internals.store.sql import statements
from saga import Category, Command, DefinitionError, Envelope, Event, Retry


class Ask(Command, kind="desk.ask"):
    text: str = ""


class Asked(Event, kind="desk.asked"):
    pass


def listener(name: str) -> Context:
    context = Context(name)

    @context.reacts_to(Asked)
    def ignore(_: Asked, work: Work) -> None: ...

    return context


class TestClaim:
    def test_what_was_sent_is_what_is_claimed(self, store: Any) -> None:
        seed = random.randrange(1_000_000)
        print(f"seed {seed}")  # noqa: T201 - to run it again
        dice = random.Random(seed)
        sent = [_random_envelope(dice) for _ in range(50)]
        store.send(*sent)
        with store.transaction() as unit:
            claimed, _ = store.inbox("desk").claim(unit, 100)
        found = {delivery.message.id: delivery.message for delivery in claimed}
        assert len(found) == 50
        for message in sent:
            for field in fields(Envelope):
                name = field.name
                if name == "payload":  # JSON, which Postgres spaces in its own way
                    assert Ask.from_json(found[message.id].payload) == Ask.from_json(
                        message.payload
                    )
                else:
                    assert getattr(found[message.id], name) == getattr(message, name), name

    def test_the_oldest_go_first(self, store: Any, command: Any) -> None:
        sent = [command(Ask()) for _ in range(5)]
        for message in sent:
            store.send(message)
        with store.transaction() as unit:
            claimed, size = store.inbox("desk").claim(unit, 3)
        assert [d.message.id for d in claimed] == [m.id for m in sent[:3]]
        assert size == 3

    def test_what_was_sent_together_is_handed_over_in_the_order_of_sending(
        self, store: Any, command: Any
    ) -> None:
        sent = [command(Ask()) for _ in range(20)]
        store.send(*sent)
        with store.transaction() as unit:
            claimed, _ = store.inbox("desk").claim(unit, 20)
        assert [d.message.id for d in claimed] == [m.id for m in sent]

    @pytest.mark.parametrize("state", ["done", "revoked", "parked"])
    def test_what_is_settled_is_never_claimed(self, store: Any, command: Any, state: str) -> None:
        store.send(command(Ask()))
        store.end(state)
        with store.transaction() as unit:
            assert store.inbox("desk").claim(unit, 10) == ([], 10)

    def test_what_is_not_due_is_not_claimed(self, store: Any, command: Any) -> None:
        store.send(command(Ask()))
        store.rows("UPDATE inbox SET due_at = now() + interval '1 hour' RETURNING 1 AS one")
        with store.transaction() as unit:
            assert store.inbox("desk").claim(unit, 10) == ([], 10)

    def test_a_consumer_gets_its_own_deliveries_only(self, store: Any, event: Any) -> None:
        store.subscribe(listener("one"), listener("two"))
        message = event(Asked())
        store.send(message)
        with store.transaction() as unit:
            assert len(store.inbox("one").claim(unit, 10)[0]) == 1
            assert len(store.inbox("two").claim(unit, 10)[0]) == 1
            assert store.inbox("three").claim(unit, 10) == ([], 10)

    def test_the_batch_of_one_context_does_not_make_another_s_small(
        self, store: Any, event: Any
    ) -> None:
        store.subscribe(listener("one"), listener("two"))
        store.send(*(event(Asked()) for _ in range(3)))
        with store.transaction() as first, store.transaction() as second:
            assert len(store.inbox("one").claim(first, 10)[0]) == 3
            assert len(store.inbox("two").claim(second, 10)[0]) == 3

    def test_one_delivery_at_a_time_needs_no_turn(self, store: Any, command: Any) -> None:
        store.send(*(command(Ask()) for _ in range(6)))
        inbox = store.inbox("desk")
        with store.transaction() as first, store.transaction() as second:
            assert len(inbox.claim(first, 1)[0]) == 1
            assert len(inbox.claim(second, 3)[0]) == 3


class TestSettle:
    def test_one_consumer_s_word_is_not_the_other_s(self, store: Any, event: Any) -> None:
        store.subscribe(listener("one"), listener("two"))
        message = event(Asked())
        store.send(message)
        with store.engine.begin() as connection:
            store.inbox("one").settle(_unit(connection), [Settlement(message.id)])
        states = store.rows("SELECT consumer, state FROM inbox ORDER BY consumer")
        assert states == [
            {"consumer": "one", "state": "done"},
            {"consumer": "two", "state": "pending"},
        ]

    def test_the_same_event_is_handled_by_each_of_its_consumers(
        self, store: Any, event: Any
    ) -> None:
        store.subscribe(listener("one"), listener("two"))
        store.send(event(Asked()))
        assert store.drain(listener("one")) == 1
        assert store.drain(listener("two")) == 1
        assert store.drain(listener("one")) == 0

    @pytest.mark.parametrize("state", ["done", "revoked", "parked"])
    def test_a_late_worker_does_not_overwrite_what_is_settled(
        self, store: Any, command: Any, state: str
    ) -> None:
        message = command(Ask())
        store.send(message)
        store.end(state)
        before = store.delivery(message)
        with store.engine.begin() as connection:
            store.inbox("desk").settle(
                _unit(connection),
                [
                    Settlement(
                        message.id,
                        DeliveryState.PENDING,
                        DeliveryOutcome.FAILED,
                        error="late",
                        attempts=9,
                    )
                ],
            )
            store.inbox("desk").settle(_unit(connection), [Settlement(message.id)])
        assert store.delivery(message) == before

    def test_it_writes_what_became_of_each(self, store: Any, command: Any) -> None:
        sent = [command(Ask()) for _ in range(3)]
        store.send(*sent)
        before = store.clock()
        with store.engine.begin() as connection:
            store.inbox("desk").settle(
                _unit(connection),
                [
                    Settlement(sent[0].id, position=7, attempts=2),
                    Settlement(
                        sent[1].id,
                        DeliveryState.PARKED,
                        DeliveryOutcome.FAILED,
                        error="no",
                        attempts=3,
                    ),
                    Settlement(
                        sent[2].id,
                        DeliveryState.PENDING,
                        DeliveryOutcome.DEFERRED,
                        attempts=1,
                        delay=60.0,
                    ),
                ],
            )
        done, parked, waiting = (store.delivery(message) for message in sent)
        assert (done["state"], done["position"], done["attempts"]) == ("done", 7, 2)
        assert (parked["state"], parked["last_error"]) == ("parked", "no")
        outcomes = [row["outcome"] for row in (done, parked, waiting)]
        assert outcomes == ["handled", "failed", "deferred"]
        assert done["done_at"] >= before
        assert parked["done_at"] >= before
        assert waiting["done_at"] is None
        assert waiting["due_at"] >= before + timedelta(seconds=60)
        assert waiting["ring_at"] >= waiting["due_at"]

    def test_an_error_is_kept_so_far_as_postgres_takes_it(self, store: Any, command: Any) -> None:
        message = command(Ask())
        store.send(message)
        with store.engine.begin() as connection:
            store.inbox("desk").settle(
                _unit(connection), [Settlement(message.id, error="\x00\udcff" + "y" * 9999)]
            )
        error = store.delivery(message)["last_error"]
        assert error.startswith("\\0\\udcffyyy")
        assert len(error) == 2000

    def test_nothing_to_settle_costs_nothing(self, store: Any) -> None:
        store.inbox("desk").settle(None, [])


@pytest.mark.parametrize("schema", ["", "Saga", "a b", 'x"; drop', "1st", "a" * 64, "saga\n"])
def test_a_schema_that_is_no_plain_name_is_refused(schema: str) -> None:
    with pytest.raises(DefinitionError, match="lower-case identifier"):
        statements(schema)


def test_two_schemas_have_turns_of_their_own() -> None:
    one = Inbox("desk", "schema_one", statements("schema_one"))
    two = Inbox("desk", "schema_two", statements("schema_two"))
    assert one._lock != two._lock


def _unit(connection: Any) -> Any:
    from internals.database.unit_of_work import SqlAlchemyUnitOfWork

    return SqlAlchemyUnitOfWork(connection)


def _random_envelope(dice: random.Random) -> Envelope:
    text = "".join(dice.choice(string.printable + "äß漢\U0001f6eb\\\"'%{}") for _ in range(30))
    saga = dice.choice([None, "trip"])
    return Envelope(
        id=uuid4(),
        kind=Ask.kind,
        category=dice.choice([Category.COMMAND, Category.REPLY]),
        payload=Ask(text=text).to_json(),
        saga_id=uuid4() if saga else None,
        saga=saga,
        causation_id=dice.choice([None, uuid4()]),
        root_id=uuid4(),
        recipient="desk",
        sender=dice.choice([None, "saga.trip", "desk"]),
        awaits=tuple(f"desk.k{n}" for n in range(dice.randrange(3))),
        retry=dice.choice([None, Retry(dice.randrange(1, 9), timedelta(milliseconds=250))]),
    )
