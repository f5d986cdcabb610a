"""A release that no longer reacts to an event: its subscription ends, and what is open with it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from boundary import Runtime
from boundary.operations import unsubscribe
from boundary.operations.doctor import diagnose
from internals import Context, Work
from internals.store import unsubscribe as retiring
from saga import (
    CAUSAL,
    SETTLED,
    ActRefused,
    Command,
    Event,
    PayloadError,
    Rejected,
    Retry,
    Saga,
    Step,
)
from tests.boundary.worlds.command_line import Ran

WHY = "mail is written elsewhere now"


class Order(BaseModel):
    number: str


class Ship(Command, kind="shipping.ship"):
    order: str


class Shipped(Event, kind="shipping.shipped"):
    order: str


class Packed(Event, kind="shipping.packed"):
    order: str


class Deliver(Command, kind="shipping.deliver"):
    order: str


SHIP = Saga(
    "ship",
    Order,
    key=lambda order: order.number,
    steps=(Step("ship", lambda o: Ship(order=o.number), until=SETTLED),),
)


def nothing(message: Any, work: Work) -> None: ...


def shipping() -> Context:
    made = Context("shipping")

    @made.handles(Ship, emits=(Shipped, Packed), undo=nothing)
    def ship(command: Ship, work: Work) -> None:
        work.publish(Packed(order=command.order))
        work.publish(Shipped(order=command.order))

    @made.handles(Deliver)
    def deliver(command: Deliver, work: Work) -> None:
        raise Rejected("nobody is at home")

    return made


def mail(*events: type[Event], write: Any = None, **options: Any) -> Context:
    made = Context("mail")
    for event in events:
        made.reacts_to(event, **options)(write or nothing)
    return made


class Post:
    """Two releases: the first one reacts to more than the second."""

    def __init__(self, runtime: Any, outside: Any) -> None:
        self._runtime = runtime
        self.outside = outside

    def release(self, *contexts: Context, saga: Saga[Any] = SHIP) -> Runtime:
        made: Runtime = self._runtime([saga], [shipping(), *contexts])
        made.subscribe()
        return made

    def start(self, runtime: Runtime, number: str, saga: Saga[Any] = SHIP) -> UUID:
        with runtime.engine.begin() as connection:
            return runtime.start(connection, saga, Order(number=number))

    def settle(self, runtime: Runtime) -> None:
        while sum(runtime.answer(name) for name in runtime._wiring.consumers):
            pass

    def make_due(self) -> None:
        self.outside.execute(
            "UPDATE inbox SET due_at = now() WHERE state = 'pending' AND wait_reason IS NULL"
        )

    def status(self, id: UUID) -> str:
        (status,) = self.outside.execute("SELECT status FROM saga WHERE id = %s", (id,)).fetchone()
        return str(status)

    def states(self, consumer: str = "mail") -> list[str]:
        rows = self.outside.execute(
            "SELECT i.state FROM inbox i JOIN outbox o ON o.id = i.message_id"
            " WHERE consumer = %s ORDER BY o.seq",
            (consumer,),
        )
        return [state for (state,) in rows.fetchall()]

    def subscriptions(self) -> list[tuple[str, str]]:
        rows = self.outside.execute("SELECT consumer, kind FROM subscription ORDER BY 1, 2")
        return list(rows.fetchall())

    def audit(self) -> list[Any]:
        return list(self.outside.execute("SELECT act, actor, reason, detail FROM audit").fetchall())


@pytest.fixture
def post(runtime: Any, outside: Any) -> Post:
    return Post(runtime, outside)


def end(runtime: Runtime, kind: str | None = "shipping.shipped", **options: Any) -> Any:
    return unsubscribe(runtime, "mail", kind, **{"actor": "ann", "reason": WHY, **options})


class TestRetired:
    def test_steps_that_wait_until_all_is_settled_go_on(self, post: Post) -> None:
        post.release(mail(Shipped, Packed))
        new = post.release(mail(Packed))
        ids = [post.start(new, str(n)) for n in range(3)]
        post.settle(new)
        assert [post.status(id) for id in ids] == ["running"] * 3

        done = end(new)
        assert (done.kinds, done.revoked, done.open) == (("shipping.shipped",), 3, 0)
        post.settle(new)
        assert [post.status(id) for id in ids] == ["completed"] * 3
        assert sorted(post.states()) == ["done"] * 3 + ["revoked"] * 3
        assert post.subscriptions() == [("mail", "shipping.packed")]
        assert post.audit() == [
            (
                "unsubscribe",
                "ann",
                WHY,
                {"consumer": "mail", "kinds": ["shipping.shipped"], "open": 3},
            )
        ]
        # And nothing is delivered to it from now on.
        later = post.start(new, "later")
        post.settle(new)
        assert post.status(later) == "completed"

    def test_a_context_that_is_gone_altogether(self, post: Post) -> None:
        post.release(mail(Shipped, Packed))
        new = post.release()
        id = post.start(new, "1")
        post.settle(new)
        done = end(new, None)
        assert (done.kinds, done.revoked) == (("shipping.packed", "shipping.shipped"), 2)
        post.settle(new)
        assert post.status(id) == "completed"
        assert post.subscriptions() == []

    def test_of_a_context_that_is_left_all_that_it_does_not_handle(self, post: Post) -> None:
        post.release(mail(Shipped, Packed))
        new = post.release(mail(Packed))
        assert end(new, None).kinds == ("shipping.shipped",)

    def test_a_row_that_was_deleted_by_hand_leaves_its_deliveries(self, post: Post) -> None:
        post.release(mail(Shipped))
        new = post.release()
        id = post.start(new, "1")
        post.settle(new)
        post.outside.execute("DELETE FROM subscription WHERE consumer = 'mail'")
        assert end(new, None).revoked == 1
        post.settle(new)
        assert post.status(id) == "completed"

    def test_what_is_parked_is_revoked_too_and_those_behind_it_go_on(self, post: Post) -> None:
        def fail(event: Any, work: Work) -> None:
            raise ValueError("no stamps")

        old = mail(Shipped, write=fail, retry=Retry(attempts=1), ordered_by="order")
        old.reacts_to(Packed, ordered_by="order")(nothing)
        one = post.release(old)
        with one.engine.begin() as connection:
            one.publish(connection, Shipped(order="1"))
            one.publish(connection, Packed(order="1"))
        post.settle(one)
        assert post.states() == ["parked", "pending"]
        new = post.release(mail(Packed, ordered_by="order"))
        assert end(new).revoked == 1
        post.settle(new)
        assert post.states() == ["revoked", "done"]

    def test_orders_to_undo_what_it_did_are_revoked_and_told_of(self, post: Post) -> None:
        steps = (
            Step[Order]("ship", lambda o: Ship(order=o.number), until=SETTLED, compensation=CAUSAL),
            Step[Order]("deliver", lambda o: Deliver(order=o.number)),
        )
        saga = Saga("ship", Order, key=lambda o: o.number, steps=steps)
        old = post.release(mail(Shipped, undo=nothing), saga=saga)
        id = post.start(old, "1", saga)
        old.answer("shipping")
        old.answer("mail")
        assert post.states() == ["done"]
        new = post.release(saga=saga)
        for _ in range(3):
            post.settle(new)
            post.make_due()
        assert post.status(id) == "compensating"
        assert end(new, None).revoked == 1
        post.settle(new)
        assert post.status(id) == "compensated"


class TestUnderWay:
    def test_what_a_transaction_publishes_that_began_before_is_revoked_too(
        self, post: Post
    ) -> None:
        post.release(mail(Shipped))
        new = post.release()
        with ThreadPoolExecutor(1) as pool:
            with new.engine.begin() as connection:
                new.publish(connection, Shipped(order="1"))
                ending = pool.submit(end, new, patience=60.0)
                with new.engine.connect() as other:
                    while other.exec_driver_sql(
                        f"SELECT 1 FROM {new.settings.db_schema}.subscription WHERE consumer='mail'"
                    ).fetchall():
                        other.rollback()
            assert ending.result(60).revoked == 1
        assert post.states() == ["revoked"]

    def test_what_is_being_handled_is_left_to_its_handler(self, post: Post) -> None:
        inside, leave = threading.Event(), threading.Event()

        def write(event: Any, work: Work) -> None:
            inside.set()
            assert leave.wait(60)

        old = post.release(mail(Shipped, write=write, external=True))
        new = post.release()
        id = post.start(new, "1")
        new.answer("shipping")
        with ThreadPoolExecutor(1) as pool:
            handling = pool.submit(old.answer, "mail")
            assert inside.wait(60)
            done = end(new, patience=0.0)
            assert (done.revoked, done.open) == (0, 1)
            leave.set()
            handling.result(60)
        assert post.states() == ["done"]
        post.settle(new)
        assert post.status(id) == "completed"

    def test_a_lot_is_revoked_in_portions(
        self, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retiring, "PORTION", 2)
        post.release(mail(Shipped))
        new = post.release()
        with new.engine.begin() as connection:
            for n in range(5):
                new.publish(connection, Shipped(order=str(n)))
        assert end(new).revoked == 5
        assert post.states() == ["revoked"] * 5


class TestRefused:
    def test_what_the_application_still_reacts_to(self, post: Post) -> None:
        new = post.release(mail(Shipped))
        with pytest.raises(ActRefused, match=r"still reacts to shipping\.shipped in mail, and its"):
            end(new)
        with pytest.raises(ActRefused, match="not subscribed to anything that the application"):
            end(new, None)
        assert post.subscriptions() == [("mail", "shipping.shipped")]

    @pytest.mark.parametrize("kind", ["shipping.lost", None])
    def test_what_it_is_not_subscribed_to(self, post: Post, kind: str | None) -> None:
        with pytest.raises(ActRefused, match="mail is not subscribed to"):
            end(post.release(), kind)
        assert post.audit() == []

    def test_without_a_reason_nothing_ends(self, post: Post) -> None:
        post.release(mail(Shipped))
        with pytest.raises(PayloadError, match="give a reason"):
            end(post.release(), reason=" ")
        assert post.subscriptions() == [("mail", "shipping.shipped")]

    def test_tried_only_it_counts(self, post: Post) -> None:
        post.release(mail(Shipped))
        new = post.release()
        post.start(new, "1")
        post.settle(new)
        done = end(new, dry_run=True)
        assert (done.kinds, done.revoked, done.open) == (("shipping.shipped",), 1, 0)
        assert post.states() == ["pending"]
        assert post.subscriptions() == [("mail", "shipping.shipped")]
        assert post.audit() == []


def test_doctor_offers_it(post: Post) -> None:
    post.release(mail(Shipped, Packed))
    new = post.release(mail(Packed))
    found = {finding.check: finding for finding in diagnose(new, application=True)}
    assert found["subscriptions"].found == (
        "subscribed, and no handler here: shipping.shipped to mail"
    )
    assert "`saga unsubscribe mail --reason WHY`" in str(found["subscriptions"].remedy)


def test_the_command(call: Any, outside: Any) -> None:
    shop = {"SAGA_APP": "shop:make"}
    assert call("subscribe", **shop).code == 0
    outside.execute(
        "INSERT INTO subscription (kind, consumer) VALUES ('orders.placed', 'gone'),"
        " ('orders.paid', 'gone')"
    )
    refused: Ran = call("unsubscribe", "gone", "orders.placed", **shop)
    assert refused.code == 2
    assert "--reason" in refused.err
    tried = call("unsubscribe", "gone", "--reason", WHY, "--dry-run", **shop)
    assert tried.out == (
        "gone would be unsubscribed from orders.paid, orders.placed; 0 deliveries would be revoked\n"
    )
    done = call("unsubscribe", "gone", "orders.placed", "--reason", WHY, "--actor", "ann", **shop)
    assert (done.code, done.out) == (
        0,
        "gone was unsubscribed from orders.placed; 0 deliveries revoked\n",
    )
    document = call("unsubscribe", "gone", "--reason", WHY, "--actor", "ann", "--json", **shop)
    assert json.loads(document.out) == {
        "context": "gone",
        "kinds": ["orders.paid"],
        "revoked": 0,
        "open": 0,
        "publishing": False,
        "actor": "ann",
        "reason": WHY,
    }
    nothing = call("unsubscribe", "gone", "--reason", WHY, **shop)
    assert nothing.code == 1
    assert "gone is not subscribed to anything" in nothing.err
