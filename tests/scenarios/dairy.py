"""A dairy whose churn publishes in order, calls an inspector, and has a worker that freezes when told to.

Every effect is a line in a ledger without a constraint, so one that happened twice shows.
"""

import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, insert
from sqlalchemy.schema import CreateTable

from boundary import Runtime, Settings
from internals import Context, Work
from internals.database.commit_points import Boundary, watch
from saga import Command, Event, Saga, Step

tables = MetaData(schema="dairy")
ledger = Table("ledger", tables, Column("n", Integer), Column("what", Text))


class Batch(BaseModel):
    n: int


class Churn(Command, kind="churn.churn"):
    n: int


class Churned(Event, kind="churn.churned"):
    n: int
    vat: str = "1"


class Inspect(Command, kind="inspector.inspect"):
    n: int


class Post(Command, kind="office.post"):
    n: int


BUTTER = Saga(
    name="butter",
    data=Batch,
    key=lambda batch: str(batch.n),
    steps=(
        Step("churn", lambda batch: Churn(n=batch.n)),
        Step("inspect", lambda batch: Inspect(n=batch.n)),
    ),
)
LETTER = Saga(name="letter", data=Batch, steps=(Step("post", lambda batch: Post(n=batch.n)),))

churn = Context("churn")
shop = Context("shop")
inspector = Context("inspector")
office = Context("office")


def note(work: Work, n: int, what: str) -> None:
    """Write a line to the ledger."""
    work.connection.execute(insert(ledger).values(n=n, what=what))


@churn.handles(Churn, emits=(Churned,))
def make_butter(command: Churn, work: Work) -> None:
    note(work, command.n, "churned")
    freeze_if_told("handler")
    work.publish(Churned(n=command.n, vat=str(command.n % 10)))


@shop.reacts_to(Churned, ordered_by="vat")
def sell(event: Churned, work: Work) -> None:
    note(work, event.n, "sold")


@inspector.handles(Inspect, external=True)
def inspect(command: Inspect, work: Work) -> None:
    freeze_if_told("call")
    work.begin()
    note(work, command.n, "inspected")


@office.handles(Post)
def post(command: Post, work: Work) -> None:
    note(work, command.n, "posted")


def freeze_if_told(at: str) -> None:
    """Stop this whole process, as a machine that is suspended does, if it was told to do so here."""
    if at == os.environ.get("FREEZE_AT"):
        os.environ.pop("FREEZE_AT")
        # To this very thread: another one would leave it time to commit.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def freeze_at_commits() -> None:
    """Look at each commit whether this is where to freeze; not before there was work."""

    def at(boundary: Boundary, moment: str) -> None:
        if boundary is not Boundary.SUBSCRIBE:
            freeze_if_told(f"{boundary.value} {moment}")

    watch(at)


def make_runtime(settings: Settings, contexts: Any = (churn, shop, inspector, office)) -> Runtime:
    """Wire the dairy; its tables are in the framework's schema, which the test drops."""
    return Runtime(
        sagas=(BUTTER, LETTER),
        contexts=contexts,
        settings=settings,
        execution_options={"schema_translate_map": _places(settings)},
    )


def create_tables(engine: Engine, settings: Settings) -> None:
    """Make the dairy's table."""
    with engine.execution_options(schema_translate_map=_places(settings)).begin() as connection:
        connection.execute(CreateTable(ledger))


def _places(settings: Settings) -> Mapping[str | None, str | None]:
    return {"dairy": settings.db_schema}
