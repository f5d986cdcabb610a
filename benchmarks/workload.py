"""The workload: a saga of three steps in three contexts, each of which inserts one row.

`third` refuses what has a limit, so that the two steps before it are undone.
"""

from collections.abc import Sequence
from uuid import UUID

from pydantic import BaseModel, SecretStr
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, Uuid, make_url

from boundary import Runtime, Settings
from internals import Context, Work
from saga import SETTLED, Command, Rejected, Saga, Settled, Step

metadata = MetaData()
effect = Table(
    "effect",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("what", Text, nullable=False),
)
#: Rows that many handlers update, where a benchmark has them do that.
counter = Table(
    "counter",
    metadata,
    Column("what", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("total", BigInteger, nullable=False),
)


class Order(BaseModel):
    """What one saga begins with."""

    order_id: UUID
    refused: bool = False


class DoFirst(Command, kind="first.do"):
    order_id: UUID


class UndoFirst(Command, kind="first.undo"):
    order_id: UUID


class DoSecond(Command, kind="second.do"):
    order_id: UUID


class UndoSecond(Command, kind="second.undo"):
    order_id: UUID


class DoThird(Command, kind="third.do"):
    order_id: UUID
    refused: bool


first = Context("first")
second = Context("second")
third = Context("third")
CONTEXTS = (first, second, third)


@first.handles(DoFirst)
def do_first(command: DoFirst, work: Work) -> None:
    insert(work, command.order_id, "first")


@first.handles(UndoFirst)
def undo_first(command: UndoFirst, work: Work) -> None:
    insert(work, command.order_id, "first undone")


@second.handles(DoSecond)
def do_second(command: DoSecond, work: Work) -> None:
    insert(work, command.order_id, "second")


@second.handles(UndoSecond)
def undo_second(command: UndoSecond, work: Work) -> None:
    insert(work, command.order_id, "second undone")


@third.handles(DoThird)
def do_third(command: DoThird, work: Work) -> None:
    if command.refused:
        raise Rejected("over the limit")
    insert(work, command.order_id, "third")


def _ordering(name: str, until: type[Settled] | None = None) -> Saga[Order]:
    return Saga(
        name=name,
        data=Order,
        steps=(
            Step(
                "first",
                lambda order: DoFirst(order_id=order.order_id),
                compensation=lambda order: UndoFirst(order_id=order.order_id),
                until=until,
            ),
            Step(
                "second",
                lambda order: DoSecond(order_id=order.order_id),
                compensation=lambda order: UndoSecond(order_id=order.order_id),
                until=until,
            ),
            Step("third", lambda order: DoThird(order_id=order.order_id, refused=order.refused)),
        ),
    )


ORDER = _ordering("order")
#: Another saga over the same contexts.
REORDER = _ordering("reorder")
#: One that waits for all that follows from a step.
PATIENT_ORDER = _ordering("patient_order", until=SETTLED)


def build_runtime(settings: Settings, sagas: Sequence[Saga[Order]] = (ORDER,)) -> Runtime:
    """Return the workload's runtime; its own table is in the schema of the framework's."""
    return Runtime(sagas=sagas, contexts=CONTEXTS, settings=_in_own_schema(settings))


def _in_own_schema(settings: Settings) -> Settings:
    assert settings.database_url is not None
    url = make_url(settings.database_url.get_secret_value())
    found = url.update_query_dict({"options": f"-csearch_path={settings.db_schema}"})
    text = found.render_as_string(hide_password=False)
    return settings.model_copy(update={"database_url": SecretStr(text)})


def insert(work: Work, order_id: UUID, what: str) -> None:
    row = {"message_id": work.message_id, "order_id": order_id, "what": what}
    work.execute("INSERT INTO effect VALUES (%(message_id)s, %(order_id)s, %(what)s)", row)
