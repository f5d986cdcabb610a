"""Every status, phase, direction and state of a delivery can be shown, in every form."""

import importlib
import json
import pkgutil
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console, RenderableType

import boundary.cli
import boundary.operations
import boundary.queries
import boundary.rendering
import saga as core
from boundary import Runtime
from boundary.operations import SagaDetail, list_parked, list_sagas, show_message, show_saga
from boundary.queries.parked import ParkedFilter
from boundary.rendering import (
    detail_document,
    message_document,
    parked_document,
    render_message,
    render_parked,
    render_saga,
    render_sagas,
    render_trace,
    summary_document,
    trace_json,
)
from boundary.rendering.mermaid import mermaid as mermaid_text
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.delivery import DeliveryState
from internals.store.trace import trace
from saga import Category, Direction, Event, Phase, Saga, Status, Step, Wait
from tests.boundary.worlds.parallel_steps import Load, Loaded, Move

PACKAGES = (boundary.cli, boundary.operations, boundary.queries, boundary.rendering, core)


def tables() -> dict[str, Mapping[Enum, Any]]:
    """All tables of these packages whose keys are members of an enum."""
    found: dict[str, Mapping[Enum, Any]] = {}
    for package in PACKAGES:
        for info in pkgutil.iter_modules(package.__path__):
            if info.name == "dramatiq_worker":  # boots a worker
                continue
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            for name, value in vars(module).items():
                if isinstance(value, Mapping) and value and all(isinstance(k, Enum) for k in value):
                    found[f"{module.__name__}.{name}"] = value
    return found


@pytest.mark.parametrize("name", sorted(tables()))
def test_a_table_over_an_enum_has_all_of_it(name: str) -> None:
    table = tables()[name]
    members = set(type(next(iter(table))))
    assert set(table) == members


class Signed(Event, kind="people.signed"):
    """What a person says."""


class Refused(Event, kind="people.refused"):
    """Or that."""


SAGA = Saga(
    name="signing",
    data=Move,
    steps=(
        Step("load", lambda move: Load(n=move.n), until=Loaded),
        Wait("sign", until=Signed, rejected_by=Refused),
    ),
)


@pytest.fixture
def signing(runtime: Any) -> Runtime:
    made: Runtime = runtime([SAGA])
    return made


@pytest.fixture
def begun(signing: Runtime, outside: Any) -> UUID:
    """A saga that has both steps begun."""
    with signing.engine.begin() as connection:
        id = signing.start(connection, SAGA, Move(n=1))
    outside.execute(
        "UPDATE saga SET steps = %s",
        (json.dumps({n: {"phase": "commanded", "generation": 1} for n in ("load", "sign")}),),
    )
    return id


def printed(drawn: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=200).print(drawn)
    return out.getvalue()


def shown(signing: Runtime, id: UUID) -> tuple[SagaDetail, str]:
    """The saga in every form there is."""
    schema = signing.settings.db_schema
    with signing.engine.connect() as connection:
        unit = SqlAlchemyUnitOfWork(connection)
        detail = show_saga(unit, schema, id, definition=SAGA)
        found = trace(unit, schema, id)
        sagas, parked = list_sagas(unit, schema), list_parked(unit, schema, ParkedFilter())
        message = show_message(unit, schema, found.roots[0].id, payload=True)
    assert message is not None
    forms = [
        printed(render_saga(detail)),
        printed(render_sagas(sagas, dict.fromkeys(Status, 1))),
        printed(render_trace(found, detail)),
        printed(render_parked(parked, len(parked))),
        printed(render_message(message, payload=True)),
        json.dumps(detail_document(detail)),
        json.dumps([summary_document(each) for each in sagas]),
        json.dumps([parked_document(each) for each in parked]),
        json.dumps(message_document(message, payload=True)),
        trace_json(found, detail),
        mermaid_text(found),
    ]
    return detail, "\n".join(forms)


def test_every_phase_is_shown(signing: Runtime, begun: UUID, outside: Any) -> None:
    for phase in Phase:
        outside.execute(
            "UPDATE saga SET steps = replace(steps::text, steps -> 'load' ->> 'phase', %s)::json",
            (phase.value,),
        )
        for status in Status:
            for direction in Direction:
                outside.execute(
                    "UPDATE saga SET status = %s, direction = %s", (status.value, direction.value)
                )
                detail, text = shown(signing, begun)
                assert {step.phase for step in detail.steps} == {phase}
                assert phase.value.replace("_", " ") in text
                assert status.value in text


def test_every_state_of_a_delivery_is_shown(signing: Runtime, begun: UUID, outside: Any) -> None:
    outcomes = {"pending": None, "done": "handled", "revoked": "dropped", "parked": "failed"}
    for state in DeliveryState:
        for category in Category:
            done = "NULL" if state is DeliveryState.PENDING else "now()"
            outside.execute(
                f"UPDATE inbox SET state = %s, outcome = %s, done_at = {done}",
                (state.value, outcomes[state]),
            )
            outside.execute("UPDATE outbox SET category = %s", (category.value,))
            assert state.value in shown(signing, begun)[1]


class TestWait:
    """What a saga waits for that waits for an outside message."""

    def wait(self, outside: Any, **changes: Any) -> None:
        steps = {
            "load": {"phase": "done", "generation": 1, "position": 2},
            "sign": {"phase": "waiting", "generation": 1, **changes},
        }
        outside.execute("UPDATE saga SET steps = %s", (json.dumps(steps),))
        outside.execute("UPDATE inbox SET state = 'done', outcome = 'handled', done_at = now()")

    def test_it_is_said_with_the_kinds_that_it_takes(
        self, signing: Runtime, begun: UUID, outside: Any
    ) -> None:
        self.wait(outside)
        detail, text = shown(signing, begun)
        said = "step sign: waits for people.signed or people.refused from outside"
        assert detail.waits_for == said
        assert said in text

    def test_without_the_application_it_is_said_that_it_waits(
        self, signing: Runtime, begun: UUID, outside: Any
    ) -> None:
        self.wait(outside)
        with signing.engine.connect() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            detail = show_saga(unit, signing.settings.db_schema, begun)
        assert detail.waits_for == "step sign: waits for a message from outside"

    def test_so_is_what_keeps_it_from_going_on(
        self, signing: Runtime, begun: UUID, outside: Any
    ) -> None:
        self.wait(outside, fault="no outcome in time")
        detail, _ = shown(signing, begun)
        assert str(detail.waits_for).endswith("from outside; it cannot go on: no outcome in time")


def test_until_when_it_waits_is_said(runtime: Any, outside: Any) -> None:
    saga = Saga(
        name="signing",
        data=Move,
        steps=(Wait("sign", until=Signed, timeout=timedelta(hours=3)),),
    )
    made: Runtime = runtime([saga])
    with made.engine.begin() as connection:
        id = made.start(connection, saga, Move(n=1))
    with made.engine.connect() as connection:
        detail = show_saga(SqlAlchemyUnitOfWork(connection), made.settings.db_schema, id)
    (step,) = detail.steps
    assert step.until is not None
    assert timedelta(hours=2) < step.until - detail.saga.at <= timedelta(hours=3)
    assert ", until " in str(detail.waits_for)
