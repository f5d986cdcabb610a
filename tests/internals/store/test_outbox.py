"""Sending: one row a message, one delivery for each consumer it goes to, in one transaction."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.message_columns import retry_from_json, retry_to_json
from internals.store.outbox import Outbox
from saga import Category, Command, Event, PayloadError, Retry, UndeclaredEmission


class Weigh(Command, kind="scales.weigh"):
    label: str = ""
    grams: float = 0.0


class Weighed(Event, kind="scales.weighed"):
    label: str = ""
    grams: float = 0.0


class Broken(Event, kind="scales.broken"):
    pass


def listener(name: str, *events: type[Event]) -> Context:
    context = Context(name)
    for event in events:
        context.reacts_to(event)(_ignore)
    return context


def _ignore(_: Any, work: Work) -> None:
    """A reaction of which only the subscription counts."""


class TestRouting:
    def test_a_command_goes_to_its_context_that_need_not_have_booted(
        self, store: Any, command: Any
    ) -> None:
        message = command(Weigh())
        assert store.send(message) == {"scales"}
        assert store.delivery(message)["consumer"] == "scales"

    def test_an_event_goes_to_everyone_who_subscribed_and_nobody_else(
        self, store: Any, event: Any
    ) -> None:
        store.subscribe(
            listener("labels", Weighed),
            listener("prices", Weighed, Broken),
            listener("repairs", Broken),
        )
        message = event(Weighed())
        assert store.send(message) == {"labels", "prices"}
        rows = store.rows("SELECT consumer FROM inbox WHERE message_id = %s", message.id)
        assert sorted(row["consumer"] for row in rows) == ["labels", "prices"]

    def test_an_event_that_nobody_wants_is_kept_in_the_log(self, store: Any, event: Any) -> None:
        assert store.send(event(Weighed())) == set()
        assert len(store.sent(Weighed.kind)) == 1
        assert store.rows("SELECT * FROM inbox") == []

    def test_subscribers_of_later_do_not_get_what_was_published_before(
        self, store: Any, event: Any
    ) -> None:
        store.send(event(Weighed()))
        store.subscribe(listener("labels", Weighed))
        assert store.deliveries("labels") == []

    def test_what_a_step_awaits_finds_its_saga_from_far_down(
        self, store: Any, command: Any, event: Any
    ) -> None:
        root = command(Weigh(), saga="trip", awaits=(Weighed.kind,))
        inherited = {
            "saga": "trip",
            "saga_id": root.saga_id,
            "root_id": root.id,
            "awaits": root.awaits,
        }
        store.subscribe(listener("labels", Weighed, Broken))
        store.send(root)
        assert store.send(event(Broken(), **inherited)) == {"labels"}
        assert store.send(event(Weighed(), **inherited)) == {"labels", "saga.trip"}
        (row,) = store.deliveries("saga.trip")
        assert (row["kind"], row["saga_id"]) == (Weighed.kind, root.saga_id)

    def test_a_host_s_event_of_an_awaited_kind_goes_to_no_saga(
        self, store: Any, event: Any
    ) -> None:
        assert store.send(event(Weighed(), awaits=(Weighed.kind,))) == set()

    def test_a_subscription_does_not_take_a_command_of_that_kind(
        self, store: Any, command: Any
    ) -> None:
        store.rows(
            "INSERT INTO subscription (kind, consumer) VALUES (%s, 'spy') RETURNING 1 AS one",
            Weigh.kind,
        )
        assert store.send(command(Weigh())) == {"scales"}


class TestOnce:
    def test_an_id_sent_before_is_dropped_with_its_deliveries(
        self, store: Any, command: Any
    ) -> None:
        message = command(Weigh())
        assert store.send(message) == {"scales"}
        assert store.send(message) == set()
        assert len(store.deliveries("scales")) == 1

    def test_also_within_one_call(self, store: Any, command: Any) -> None:
        message = command(Weigh())
        assert store.send(message, command(Weigh()), message) == {"scales"}
        assert len(store.deliveries("scales")) == 2

    def test_a_repeat_does_not_revive_what_is_done(self, store: Any, command: Any) -> None:
        message = command(Weigh())
        store.send(message)
        context = Context("scales")
        context.handles(Weigh)(_ignore)
        store.drain(context)
        assert store.send(message) == set()
        assert store.delivery(message)["state"] == "done"

    def test_two_transactions_that_send_the_same_id_send_it_once(
        self, store: Any, command: Any, eventually: Any
    ) -> None:
        message = command(Weigh())
        with ThreadPoolExecutor(1) as pool:
            with store.engine.begin() as connection:
                first = store.outbox.send(SqlAlchemyUnitOfWork(connection), [message])
                second = pool.submit(store.send, message)
                eventually(
                    lambda: store.rows(
                        "SELECT 1 AS one FROM pg_stat_activity "
                        "WHERE wait_event_type = 'Lock' AND query LIKE %s",
                        f"%{store.schema}.subscription%",  # of a statement the begin is shown
                    ),
                    what="the second to wait for the first",
                )
            assert (first, second.result(20)) == ({"scales"}, set())
        assert len(store.deliveries("scales")) == 1

    def test_nothing_is_sent_by_a_transaction_that_is_rolled_back(
        self, store: Any, command: Any
    ) -> None:
        message = command(Weigh())
        with store.transaction() as unit:
            assert store.outbox.send(unit, [message]) == {"scales"}
        assert store.rows("SELECT * FROM outbox") == []
        assert store.rows("SELECT * FROM inbox") == []
        assert store.send(message) == {"scales"}

    def test_nothing_at_all_costs_nothing(self, store: Any) -> None:
        assert store.outbox.send(None, []) == set()


class TestPayload:
    def test_one_that_is_too_large_is_refused_and_nothing_is_written(
        self, store: Any, command: Any
    ) -> None:
        small, large = command(Weigh()), command(Weigh(label="é" * 5000))
        with pytest.raises(PayloadError, match=r"10,0\d\d bytes and the limit is 10,000"):
            store.send(small, large)
        assert store.rows("SELECT * FROM outbox") == []

    def test_bytes_count_and_the_limit_itself_is_allowed(self, store: Any, command: Any) -> None:
        room = 10_000 - len(Weigh().to_json().encode())
        store.send(command(Weigh(label="é" * (room // 2) + "x" * (room % 2))))
        with pytest.raises(PayloadError):
            store.send(command(Weigh(label="x" * (room + 1))))

    @pytest.mark.parametrize(
        "fields",
        [
            {"label": "a\x00b"},
            {"label": "\ud800"},
            {"grams": float("nan")},
            {"grams": float("inf")},
        ],
        ids=["NUL", "surrogate", "NaN", "infinity"],
    )
    def test_what_json_or_postgres_cannot_hold_is_the_handler_s_failure(
        self, store: Any, command: Any, note: Any, fields: dict[str, Any]
    ) -> None:
        bad = Weighed.model_construct(**{"label": "", "grams": 0.0, **fields})

        def handle(message: Weigh, work: Work) -> None:
            note(work, 1)
            work.publish(bad if message.label == "bad" else Weighed())

        context = Context("scales")
        context.handles(Weigh, emits=(Weighed,))(handle)
        good, failing = command(Weigh()), command(Weigh(label="bad"))
        store.send(good, failing)
        store.hop(context)
        assert store.delivery(good)["state"] == "done"
        assert store.delivery(failing)["state"] == "pending"
        assert store.delivery(failing)["last_error"].startswith("PayloadError: scales.weighed:")
        assert store.effects() == [1]

    def test_an_event_too_large_fails_its_handler_and_not_the_batch(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Weigh, work: Work) -> None:
            note(work, 1)
            work.publish(Weighed(label=message.label * 20))

        context = Context("scales")
        context.handles(Weigh, emits=(Weighed,))(handle)
        good, large = command(Weigh(label="x")), command(Weigh(label="x" * 1000))
        store.send(good, large)
        store.hop(context)
        assert store.delivery(good)["state"] == "done"
        assert "the limit is 10,000" in store.delivery(large)["last_error"]
        assert store.effects() == [1]

    @pytest.mark.parametrize("label", ["\\u0000", "\\", "\\\\u0000", "ð\U0001f6eb", "'; --", "%s"])
    def test_text_that_only_looks_dangerous_arrives_as_it_was(
        self, store: Any, command: Any, label: str
    ) -> None:
        seen: list[str] = []
        context = Context("scales")
        context.handles(Weigh)(lambda message, _: seen.append(message.label))
        store.send(command(Weigh(label=label)))
        store.drain(context)
        assert seen == [label]


class TestEmits:
    def test_what_emits_does_not_list_is_not_sent(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Weigh, work: Work) -> None:
            note(work, 1)
            work.publish(Weighed())
            work.publish(Broken())

        context = Context("scales")
        context.handles(Weigh, emits=(Weighed,))(handle)
        message = command(Weigh())
        store.send(message)
        store.hop(context)
        row = store.delivery(message)
        assert (row["state"], row["attempts"]) == ("pending", 1)
        assert row["last_error"].startswith(
            f"{UndeclaredEmission.__name__}: the handler of scales.weigh in scales sent "
            "scales.broken"
        )
        assert store.sent(Weighed.kind) == []
        assert store.effects() == []

    def test_what_is_sent_knows_its_place_in_the_causal_tree(
        self, store: Any, command: Any, event: Any
    ) -> None:
        root = command(Weigh(), saga="trip", awaits=(Broken.kind,))
        context = Context("scales")

        def handle(message: Weigh, work: Work) -> None:
            work.publish(Weighed())

        context.handles(Weigh, emits=(Weighed,))(handle)
        store.send(root)
        store.hop(context)
        (row,) = store.sent(Weighed.kind)
        assert {name: row[name] for name in ("saga", "saga_id", "root_id", "causation_id")} == {
            "saga": "trip",
            "saga_id": root.saga_id,
            "root_id": root.id,
            "causation_id": root.id,
        }
        assert (row["sender"], row["recipient"]) == ("scales", None)
        assert (row["category"], row["awaits"]) == (Category.EVENT, [Broken.kind])

    def test_below_a_host_s_event_that_event_is_the_root(self, store: Any, event: Any) -> None:
        context = Context("scales")

        def react(_: Weighed, work: Work) -> None:
            work.publish(Broken())

        context.reacts_to(Weighed, emits=(Broken,))(react)
        store.subscribe(context)
        message = event(Weighed())
        store.send(message)
        store.hop(context)
        (row,) = store.sent(Broken.kind)
        assert (row["root_id"], row["causation_id"]) == (message.id, message.id)
        assert (row["saga"], row["saga_id"]) == (None, None)


def test_a_delivery_is_due_at_once_and_late_after_the_grace(store: Any, command: Any) -> None:
    outbox = Outbox(store.statements, grace=30.0)
    before = store.clock()
    message = command(Weigh())
    with store.engine.begin() as connection:
        outbox.send(SqlAlchemyUnitOfWork(connection), [message])
    after = store.clock()
    row = store.delivery(message)
    assert before <= row["due_at"] <= after
    assert before <= row["ring_at"] - timedelta(seconds=30) <= after
    assert (row["state"], row["attempts"], row["rings"]) == ("pending", 0, 0)


def test_a_message_joins_what_else_the_transaction_writes(store: Any, command: Any) -> None:
    message = command(Weigh())
    with store.engine.begin() as connection:
        connection.execute(text("INSERT INTO effect VALUES (1)"))
        store.outbox.send(SqlAlchemyUnitOfWork(connection), [message])
        assert store.effects() == []
        assert store.deliveries("scales") == []
    assert store.effects() == [1]
    assert len(store.deliveries("scales")) == 1


def test_a_retry_policy_is_stored_and_read_back() -> None:
    retry = Retry(attempts=7, backoff=timedelta(milliseconds=1500), cap=timedelta(hours=1))
    assert retry_from_json(retry_to_json(retry)) == retry
    retry = Retry(never=(ValueError, "billing.Closed"), always=(TimeoutError,))
    assert retry_from_json(retry_to_json(retry)) == retry
    assert retry_to_json(None) is None
    assert retry_from_json(None) is None


def test_ids_are_the_sender_s(store: Any, event: Any) -> None:
    id = uuid4()
    store.send(event(Broken(), id=id, root_id=id))
    assert [row["id"] for row in store.sent(Broken.kind)] == [id]
