"""A carnival: floats and bands are got ready side by side, and then the city says yes or no.

Below each of the two commands contexts react to each other's events, up to three levels deep.  What
each handler did, and what it undid, is a line in a table that has no constraint, so one that
happened twice shows.
"""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import psycopg
from pydantic import BaseModel
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    false,
    func,
    insert,
    select,
)
from sqlalchemy.schema import CreateTable

from boundary import Runtime, Settings
from internals import Context, Work, no_undo
from saga import CAUSAL, SETTLED, Command, Event, Parallel, Rejected, Retry, Saga, Step

tables = MetaData(schema="carnival")
did = Table(
    "did",
    tables,
    Column("id", Integer, Identity(), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("act", Text, nullable=False),
    Column("message_id", Uuid, nullable=False),
)
undid = Table(
    "undid",
    tables,
    Column("id", Integer, Identity(), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("act", Text, nullable=False),
    Column("order_id", Uuid, nullable=False),
)
#: What the city saw when it said yes: how much had been done by then.
permit = Table("permit", tables, Column("number", Integer), Column("seen", Integer))
#: The walls of the town, which no transaction has anything to do with: each call, with its key.
wall = Table("wall", tables, Column("number", Integer), Column("call", Text), Column("key", Text))
#: Messages whose first run has failed.
failed = Table("failed", tables, Column("message_id", Uuid, primary_key=True))

#: Parades whose choir goes on singing until the test lets it go.
hold = Table(
    "hold", tables, Column("number", Integer), Column("holding", Boolean, server_default=false())
)

#: However often its worker dies, it is tried again, and soon.
PATIENT = Retry(attempts=50, backoff=timedelta(milliseconds=10))

STAYS = "what was printed stays printed"


class Parade(BaseModel):
    number: int
    troupe: str
    #: Who says no: nobody, "cook" while all is being got ready, or "city" afterwards.
    refuses: str = ""


class Build(Command, kind="floats.build"):
    number: int


class Built(Event, kind="floats.built"):
    number: int
    side: str


class Painted(Event, kind="paint.painted"):
    number: int
    side: str


class Engage(Command, kind="bands.engage"):
    number: int
    troupe: str
    refuses: str


class Engaged(Event, kind="bands.engaged"):
    number: int
    troupe: str
    refuses: str


class Escorted(Event, kind="stewards.escorted"):
    number: int
    refuses: str


class Permit(Command, kind="city.permit"):
    number: int
    refuses: str


CARNIVAL = Saga(
    "carnival",
    Parade,
    key=lambda parade: str(parade.number),
    steps=(
        Parallel(
            Step(
                "floats",
                lambda parade: Build(number=parade.number),
                until=SETTLED,
                compensation=CAUSAL,
                timeout=timedelta(hours=1),
            ),
            Step(
                "bands",
                lambda parade: Engage(**parade.model_dump()),
                until=SETTLED,
                compensation=CAUSAL,
            ),
        ),
        Step("permit", lambda parade: Permit(number=parade.number, refuses=parade.refuses)),
    ),
)

floats, paint, signs = Context("floats"), Context("paint"), Context("signs")
bands, stewards, cook = Context("bands"), Context("stewards"), Context("cook")
choir, press = Context("choir"), Context("press")
city, photos = Context("city"), Context("photos")


def note(work: Work, number: int, act: str) -> None:
    work.connection.execute(insert(did).values(number=number, act=act, message_id=work.message_id))


def undoing(act: Callable[[Any], str], *, fails: bool = False) -> Callable[[Any, Work], None]:
    """The undo of what a handler noted; of one in three the first run fails."""

    def undo(message: Any, work: Work) -> None:
        work.connection.execute(
            insert(undid).values(number=message.number, act=act(message), order_id=work.message_id)
        )
        if fails and message.number % 3 == 1:
            fail_once(work)

    return undo


def fail_once(work: Work) -> None:
    """Raise in the first run, which is remembered outside of its transaction."""
    with outside() as world:
        first = world.execute(
            "INSERT INTO failed VALUES (%s) ON CONFLICT DO NOTHING", [work.message_id]
        )
    if first.rowcount:
        raise RuntimeError("the ladder slipped")


@floats.handles(Build, emits=(Built,), retry=PATIENT, undo=undoing(lambda _: "built"))
def build(command: Build, work: Work) -> None:
    note(work, command.number, "built")
    for side in ("left", "right"):
        work.publish(Built(number=command.number, side=side))


@paint.reacts_to(
    Built, emits=(Painted,), retry=PATIENT, undo=undoing(lambda built: f"painted {built.side}")
)
def cover(event: Built, work: Work) -> None:
    note(work, event.number, f"painted {event.side}")
    work.publish(Painted(number=event.number, side=event.side))
    if event.number % 4 == 0:
        fail_once(work)


def take_down(event: Painted, work: Work) -> None:
    _call(work, event.number, f"down {event.side}")
    work.begin()
    undoing(lambda _: f"sign {event.side}")(event, work)


@signs.reacts_to(Painted, external=True, lease=timedelta(seconds=10), retry=PATIENT, undo=take_down)
def put_up(event: Painted, work: Work) -> None:
    _call(work, event.number, f"up {event.side}")
    work.begin()
    note(work, event.number, f"sign {event.side}")


@photos.reacts_to(Painted, retry=PATIENT, undo=undoing(lambda painted: f"photo {painted.side}"))
def take(event: Painted, work: Work) -> None:
    note(work, event.number, f"photo {event.side}")


@bands.handles(Engage, emits=(Engaged,), retry=PATIENT, undo=undoing(lambda _: "engaged"))
def engage(command: Engage, work: Work) -> None:
    note(work, command.number, "engaged")
    work.publish(Engaged(**command.model_dump()))


@stewards.reacts_to(
    Engaged,
    emits=(Escorted,),
    retry=PATIENT,
    undo=undoing(lambda _: "escorted", fails=True),
    ordered_by="troupe",
)
def escort(event: Engaged, work: Work) -> None:
    note(work, event.number, "escorted")
    work.publish(Escorted(number=event.number, refuses=event.refuses))


@choir.reacts_to(Engaged, retry=PATIENT, undo=undoing(lambda _: "sang"))
def sing(event: Engaged, work: Work) -> None:
    note(work, event.number, "sang")
    with outside() as world:
        world.execute("UPDATE hold SET holding = true WHERE number = %s", [event.number])
        while world.execute("SELECT 1 FROM hold WHERE number = %s", [event.number]).fetchone():
            time.sleep(0.01)  # between two looks; nothing relies on its length


@press.reacts_to(Engaged, retry=PATIENT, undo=no_undo(STAYS))
def announce(event: Engaged, work: Work) -> None:
    note(work, event.number, "printed")


@cook.reacts_to(Escorted, retry=PATIENT, undo=undoing(lambda _: "fed"))
def feed(event: Escorted, work: Work) -> None:
    note(work, event.number, "fed")
    if event.refuses == "cook":
        raise Rejected("there is no soup")


@city.handles(Permit, retry=PATIENT)
def say(command: Permit, work: Work) -> None:
    if command.refuses == "city":
        raise Rejected("the street is closed")
    seen = work.connection.scalar(
        select(func.count()).select_from(did).where(did.c.number == command.number)
    )
    work.connection.execute(insert(permit).values(number=command.number, seen=seen))


def _call(work: Work, number: int, call: str) -> None:
    with outside() as world:
        world.execute("INSERT INTO wall VALUES (%s, %s, %s)", [number, call, work.idempotency_key])


def outside() -> psycopg.Connection[Any]:
    """A connection of the world outside: what is written here stays, whatever happens."""
    settings = Settings()
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value().replace("+psycopg", "")
    return psycopg.connect(url, autocommit=True, options=f"-c search_path={settings.db_schema}")


#: Those that are there from the start; the photographers come later.
EARLY = (floats, paint, signs, bands, stewards, cook, choir, press, city)
CONTEXTS = (*EARLY, photos)


def make_runtime(settings: Settings, contexts: tuple[Context, ...] = CONTEXTS) -> Runtime:
    """Wire the carnival; its tables are in the framework's schema, which the test drops."""
    return Runtime(
        sagas=[CARNIVAL],
        contexts=contexts,
        settings=settings,
        execution_options={"schema_translate_map": _places(settings)},
    )


def create_tables(engine: Engine, settings: Settings) -> None:
    """Make the carnival's tables."""
    with engine.execution_options(schema_translate_map=_places(settings)).begin() as connection:
        for table in tables.sorted_tables:
            connection.execute(CreateTable(table))


def _places(settings: Settings) -> Mapping[str | None, str | None]:
    return {"carnival": settings.db_schema}
