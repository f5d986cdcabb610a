"""A shop, and a clinic whose staff do as they are told, as their owners see them."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from boundary import Settings
from boundary.embedded import EmbeddedServers
from internals.database.commit_points import Boundary, transaction
from saga import Message, Saga
from tests.scenarios import app, clinic_sagas
from tests.scenarios.app import STOCK, Order
from tests.scenarios.clinic import Visit
from tests.scenarios.running_application import House


class Shop(House):
    """The shop of `app`."""

    application = app
    worker = "worker"

    def place(self, *orders: Order) -> list[UUID]:
        """Accept these orders."""
        return self.start(app.ORDER, *orders)

    def entries(self, number: int) -> tuple[str, ...]:
        """What the ledger holds for an order, sorted; a double effect is there twice."""
        rows = self.query("SELECT what FROM ledger WHERE number = %s ORDER BY what", number)
        return tuple(what for (what,) in rows)

    def check_books(self, expected: dict[int, tuple[str, ...]]) -> None:
        """Every order's effects are in the ledger, exactly once, and nothing else is."""
        found: dict[int, list[str]] = {number: [] for number in expected}
        for number, what in self.query("SELECT number, what FROM ledger ORDER BY what"):
            found[number].append(what)
        wrong = {n: found[n] for n, entries in expected.items() if found[n] != list(entries)}
        assert wrong == {}
        taken = sum(("reserved" in e) - ("released" in e) for e in expected.values())
        assert self.query('SELECT "left" FROM shelf') == [(STOCK - taken,)]
        assert self.count("inbox", "state <> 'done'") == 0
        self.check_history()


class Clinic(House):
    """The clinic of `clinic_sagas`."""

    application = clinic_sagas
    worker = "clinic_worker"

    # What the test tells the staff

    def tell(self, patient: int, act: str, how: str, times: int = 1) -> None:
        """Tell the next runs of this act what to do, such as fail, reject, die or hold."""
        self.query(
            "INSERT INTO script (patient, act, how, times) VALUES (%s, %s, %s, %s)",
            patient,
            act,
            how,
            times,
        )

    def let_go(self, patient: int, act: str) -> None:
        """Whoever holds goes on with what else was told."""
        self.query(
            "DELETE FROM script WHERE patient = %s AND act = %s AND how IN ('hold', 'holding')",
            patient,
            act,
        )

    def turn_clock(self, id: UUID, kind: str) -> None:
        """This delivery of a saga is due now: a deadline passes, a lease ends, a wait is over."""
        self.query(
            "UPDATE inbox SET due_at = now(), ring_at = now() FROM outbox "
            "WHERE id = message_id AND inbox.saga_id = %s AND kind = %s AND state = 'pending'",
            id,
            kind,
        )

    # What operators and the outside do

    def subscribe(self) -> None:
        """Record what all contexts listen to, as a deploy does."""
        every = self.application.make_runtime(self.settings)
        every.subscribe()
        every.close()

    def visit(self, saga: Saga[Visit], *patients: int) -> list[UUID]:
        return self.start(saga, *(Visit(patient=patient) for patient in patients))

    def act(self, id: UUID, act: Message, actor: str = "ann") -> Any:
        """Cancel, replay or skip, as the command line does."""
        with transaction(self.runtime._wiring.database, Boundary.ACT) as unit:
            acted = self.runtime._administration.acts.act(unit, id, act, actor=actor)
        self.runtime._wiring.broker.ring(acted.woken)
        return acted

    # What there is to see

    def chart(self, patient: int) -> tuple[str, ...]:
        """What was done to a patient, in the order in which it was written."""
        rows = self.query("SELECT what FROM chart WHERE patient = %s ORDER BY line", patient)
        return tuple(what for (what,) in rows)

    def runs(self, patient: int, act: str) -> list[str]:
        """The idempotency key of each run of a handler, those that came to nothing included."""
        rows = self.query(
            "SELECT key FROM log WHERE patient = %s AND act = %s ORDER BY line", patient, act
        )
        return [key for (key,) in rows]

    def wait_for_run(self, patient: int, act: str, number: int = 1) -> None:
        self.wait_until(lambda: len(self.runs(patient, act)) == number, f"run {number} of {act}")

    def wait_for_hold(self, patient: int, act: str) -> None:
        held = f"patient = {patient} AND act = '{act}' AND how = 'holding'"
        self.wait_until(lambda: self.count("script", held), f"{act} to hold")

    def delivery(self, id: UUID, kind: str) -> Any:
        """The newest delivery of this kind to or from a saga: its state, attempts and error."""
        rows = self.query(
            "SELECT state, attempts, last_error FROM inbox JOIN outbox ON id = message_id "
            "WHERE inbox.saga_id = %s AND kind = %s ORDER BY seq DESC LIMIT 1",
            id,
            kind,
        )
        return rows[0] if rows else None

    def pending(self, id: UUID, kind: str) -> bool:
        found = self.delivery(id, kind)
        return found is None or found[0] == "pending"

    def data(self, id: UUID) -> dict[str, Any]:
        ((data,),) = self.query("SELECT data FROM saga WHERE id = %s", id)
        return dict(data)

    def step(self, id: UUID, name: str) -> dict[str, Any]:
        """What is stored about a step; empty if it was not begun."""
        ((steps,),) = self.query("SELECT steps FROM saga WHERE id = %s", id)
        return dict(steps.get(name, {}))


@pytest.fixture
def shop(
    empty_settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Shop]:
    """A shop on the servers that all tests share."""
    opened = Shop(empty_settings, start_group, eventually)
    yield opened
    opened.close()


@pytest.fixture
def own_shop(
    own_servers: EmbeddedServers, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Shop]:
    """A shop on servers of its own, of which Redis may be wiped and killed."""
    opened = Shop(_settings(own_servers), start_group, eventually)
    yield opened
    opened.close()


@pytest.fixture
def durable_shop(
    durable_servers: EmbeddedServers,
    start_group: Callable[..., Any],
    eventually: Callable[..., Any],
) -> Iterator[Shop]:
    """A shop on servers of its own, of which Postgres may be killed too."""
    opened = Shop(_settings(durable_servers), start_group, eventually)
    yield opened
    opened.close()


@pytest.fixture
def clinic(
    empty_settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Clinic]:
    """A clinic on the servers that all tests share."""
    opened = Clinic(empty_settings, start_group, eventually)
    yield opened
    opened.close()


@pytest.fixture
def own_clinic(
    own_servers: EmbeddedServers, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Clinic]:
    """A clinic on servers of its own, of which Redis may be killed."""
    opened = Clinic(_settings(own_servers), start_group, eventually)
    yield opened
    opened.close()


def _settings(servers: EmbeddedServers) -> Settings:
    return Settings(database_url=servers.database_url, redis_url=servers.redis_url)
