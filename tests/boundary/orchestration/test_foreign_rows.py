"""Another message has the id of one that is to be sent: that is said, and nobody waits for ever."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from sqlalchemy import text

from boundary import Runtime
from boundary.operations.doctor import Verdict, diagnose
from boundary.queries.saga_detail import show_saga
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.ids import uuid7
from saga import Command, Event, IdConflict, Retry, Saga, Step, Wait


class Order(Command, kind="stock.reserve"):
    n: int


class Free(Command, kind="stock.free"):
    n: int


class Charge(Command, kind="till.charge"):
    n: int


class Signed(Event, kind="door.signed"):
    by: str


class Counted(Event, kind="stock.counted"):
    n: int


PURCHASE: Saga[Order] = Saga(
    "purchase",
    Order,
    key=lambda order: str(order.n),
    steps=(
        Step("stock", lambda order: order, compensation=lambda order: Free(n=order.n)),
        Step("charge", lambda order: Charge(n=order.n)),
        Wait("signature", until=Signed),
    ),
)

FOREIGN = """
INSERT INTO outbox (id, kind, category, payload, root_id, awaits, sender)
VALUES (%s, 'harbour.docked', 'event', '{}', %s, '{}', 'sea')
"""


class Shop:
    """Its saga reserves, charges, and waits for a signature."""

    def __init__(self, runtime: Callable[..., Runtime], outside: Any) -> None:
        stock, till = Context("stock"), Context("till")
        stock.handles(Order)(lambda _, __: None)
        stock.handles(Free)(lambda _, __: None)
        till.handles(Charge)(lambda _, __: None)
        self.runtime = runtime([PURCHASE], [stock, till])
        self.outside = outside

    def start(self, *numbers: int) -> list[UUID]:
        with self.runtime.engine.begin() as connection:
            orders = [Order(n=n) for n in numbers]
            return list(self.runtime.start_many(connection, PURCHASE, orders))

    def plant(self, id: UUID) -> None:
        """Let something else have this id."""
        self.outside.execute(FOREIGN, [id, id])

    def work(self, *, follow: bool) -> None:
        while sum(
            self.runtime.answer(name, follow=follow) for name in self.runtime._wiring.consumers
        ):
            pass

    def saga(self, id: UUID) -> tuple[str, str | None]:
        [found] = self.outside.execute(
            "SELECT status, reason FROM saga WHERE id = %s", [id]
        ).fetchall()
        status, reason = found
        return str(status), reason


@pytest.fixture
def shop(runtime: Callable[..., Runtime], outside: Any) -> Shop:
    return Shop(runtime, outside)


@pytest.mark.parametrize("follow", [True, False], ids=["colocated", "apart"])
class TestSaga:
    def test_it_is_stuck_with_the_reason_and_the_others_go_on(
        self, shop: Shop, follow: bool
    ) -> None:
        first, bad, last = shop.start(1, 2, 3)
        shop.plant(id := uuid5(bad, "charge:commanded:1"))
        shop.work(follow=follow)
        status, reason = shop.saga(bad)
        assert status == "stuck"
        assert reason is not None
        assert f"till.charge cannot be sent: its id {id} belongs to another message" in reason
        assert "harbour.docked sent by sea" in reason
        for other in (first, last):
            assert shop.saga(other) == ("running", None)
            assert shop.outside.execute(
                "SELECT 1 FROM outbox WHERE saga_id = %s AND kind = 'till.charge'", [other]
            ).fetchone()

    def test_show_and_doctor_say_so(self, shop: Shop, follow: bool) -> None:
        [bad] = shop.start(2)
        shop.plant(id := uuid5(bad, "charge:commanded:1"))
        shop.work(follow=follow)
        with shop.runtime.engine.connect() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            shown = show_saga(unit, shop.runtime.settings.db_schema, bad)
        assert str(id) in str(shown.saga.reason)
        [ids] = [f for f in diagnose(shop.runtime, application=True) if f.check == "message ids"]
        assert ids.verdict is Verdict.WRONG
        assert "purchase:2" in ids.found
        assert "till.charge cannot be sent" in ids.found

    def test_it_goes_on_when_the_row_is_gone_and_the_delivery_is_retried(
        self, shop: Shop, follow: bool
    ) -> None:
        [bad] = shop.start(2)
        shop.plant(id := uuid5(bad, "charge:commanded:1"))
        shop.work(follow=follow)
        shop.outside.execute("DELETE FROM outbox WHERE id = %s", [id])
        [(parked,)] = shop.outside.execute(
            "SELECT message_id FROM inbox WHERE state = 'parked'"
        ).fetchall()
        with shop.runtime.engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            shop.runtime._administration.acts.parked.retry(
                unit, [parked], actor="ann", reason="it is gone"
            )
        shop.work(follow=follow)
        assert shop.saga(bad) == ("running", None)


def test_a_command_that_was_dropped_by_an_earlier_release_is_found_by_the_doctor(
    shop: Shop,
) -> None:
    [bad] = shop.start(2)
    shop.outside.execute("UPDATE outbox SET saga_id = NULL WHERE kind = 'stock.reserve'")
    [ids] = [f for f in diagnose(shop.runtime, application=True) if f.check == "message ids"]
    assert ids.verdict is Verdict.WRONG
    assert "purchase:2" in ids.found
    assert str(uuid5(bad, "stock:commanded:1")) in ids.found


class TestHost:
    def test_a_signal_under_the_id_of_another_message_is_refused(self, shop: Shop) -> None:
        one, other = shop.start(1, 2)
        id = uuid7()
        with shop.runtime.engine.begin() as connection:
            shop.runtime.signal(connection, one, Signed(by="ann"), id=id)
        for taken in (id, uuid5(other, "stock:commanded:1")):
            with (
                pytest.raises(IdConflict, match="signed cannot be sent"),
                shop.runtime.engine.begin() as connection,
            ):
                shop.runtime.signal(connection, other, Signed(by="bo"), id=taken)
        with shop.runtime.engine.begin() as connection:
            shop.runtime.signal(connection, one, Signed(by="ann"), id=id)
        assert shop.outside.execute(
            "SELECT repeats FROM outbox WHERE id = %s", [id]
        ).fetchone() == (1,)

    @pytest.mark.parametrize(
        ("module", "what"),
        [("boundary.runtime.host_writes", "publish"), ("boundary.orchestration.start", "start")],
    )
    def test_nothing_is_published_or_started_under_such_an_id(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch, module: str, what: str
    ) -> None:
        monkeypatch.setattr(f"{module}.uuid7", lambda: UUID(int=7))
        shop.plant(UUID(int=7) if what == "publish" else uuid5(UUID(int=7), "start"))
        act = {
            "publish": lambda connection: shop.runtime.publish(connection, Counted(n=1)),
            "start": lambda connection: shop.runtime.start(connection, PURCHASE, Order(n=1)),
        }[what]
        with (
            pytest.raises(IdConflict, match="docked sent by sea"),
            shop.runtime.engine.begin() as connection,
        ):
            act(connection)  # type: ignore[no-untyped-call]


class Tell(Command, kind="crier.tell"):
    n: int


class Told(Event, kind="crier.told"):
    n: int


#: A second attempt is not due while a test lasts.
LATER = Retry(attempts=2, backoff=timedelta(days=999), cap=timedelta(days=999))


@pytest.mark.parametrize("external", [True, False])
def test_a_handler_that_sends_such_a_message_fails_alone_and_its_writes_are_undone(
    runtime: Callable[..., Runtime],
    outside: Any,
    monkeypatch: pytest.MonkeyPatch,
    external: bool,
) -> None:
    outside.execute("CREATE TABLE told (n int)")
    crier = Context("crier")

    @crier.handles(Tell, emits=(Told,), external=external, retry=LATER)
    def tell(command: Tell, work: Work) -> None:
        if external:
            work.begin()
        work.connection.execute(text("INSERT INTO told VALUES (:n)"), {"n": command.n})
        work.publish(Told(n=command.n))
        [sent] = work.sent
        object.__setattr__(sent, "id", uuid5(UUID(int=1), str(command.n)))

    made = runtime([], [crier])
    outside.execute(FOREIGN, [uuid5(UUID(int=1), "2")] * 2)
    with made.engine.begin() as connection:
        for n in (1, 2, 3):
            _command(made, connection, Tell(n=n))
    while made.answer("crier"):
        pass
    rows = outside.execute(
        "SELECT (o.payload ->> 'n')::int, i.state, i.attempts, i.last_error FROM inbox i "
        "JOIN outbox o ON o.id = i.message_id WHERE o.kind = 'crier.tell' ORDER BY 1"
    ).fetchall()
    assert [(n, state) for n, state, *_ in rows] == [(1, "done"), (2, "pending"), (3, "done")]
    assert rows[1][2] == 1
    assert "IdConflict: crier.told cannot be sent" in rows[1][3]
    assert outside.execute("SELECT n FROM told ORDER BY n").fetchall() == [(1,), (3,)]


def _command(runtime: Runtime, connection: Any, command: Command) -> None:
    from saga import Category, Envelope

    id = uuid7()
    runtime._wiring.outbox.send(
        SqlAlchemyUnitOfWork(connection),
        [
            Envelope(
                id=id,
                kind=command.kind,
                category=Category.COMMAND,
                payload=command.to_json(),
                root_id=id,
                recipient="crier",
            )
        ],
    )
