"""The staff of the clinic, who do as a test tells them.

A test writes to the `script` what the next runs of a handler shall do: fail, say no, kill their
worker, use a room that others use too, or hold until they are let go.  Each run is noted in the `log` from outside its transaction,
so it is seen even if it comes to nothing, and each effect is a line in the `chart`, which has no
constraint, so one that happened twice shows.
"""

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    func,
    insert,
    text,
    update,
)
from sqlalchemy.schema import CreateTable

from boundary import Settings
from internals import Work
from saga import Rejected

tables = MetaData(schema="clinic")
chart = Table(
    "chart",
    tables,
    Column("line", Integer, Identity()),
    Column("patient", Integer),
    Column("what", Text),
)
script = Table(
    "script",
    tables,
    Column("line", Integer, Identity()),
    Column("patient", Integer),
    Column("act", Text),
    Column("how", Text),
    Column("times", Integer),
)
room = Table("room", tables, Column("name", Text), Column("used", Integer))
log = Table(
    "log",
    tables,
    Column("line", Integer, Identity()),
    Column("patient", Integer),
    Column("act", Text),
    Column("key", Text),
    Column("backend", Integer),
    Column("at", DateTime(timezone=True), server_default=func.clock_timestamp()),
)


class Hopeless(Exception):
    """Trying again would not help."""


class Busy(Exception):
    """Trying again will help some time."""


TROUBLES = {"fail": RuntimeError, "hopeless": Hopeless, "busy": Busy}


def play(work: Work, patient: int, act: str, effect: str) -> None:
    """One run: the effect is written first, so that what goes wrong afterwards must undo it."""
    note_run(work, patient, act, work.connection.scalar(text("SELECT pg_backend_pid()")))
    write(work, patient, effect)
    obey(work, patient, act)


def write(work: Work, patient: int, what: str) -> None:
    work.connection.execute(insert(chart).values(patient=patient, what=what))


def note_run(work: Work, patient: int, act: str, backend: int | None = None) -> None:
    with _outside() as world:
        world.execute(
            "INSERT INTO log (patient, act, key, backend) VALUES (%s, %s, %s, %s)",
            [patient, act, work.idempotency_key, backend],
        )


def obey(work: Work, patient: int, act: str) -> None:
    """Do what the script says about this run, line by line."""
    with _outside() as world:
        told = world.execute(
            "SELECT line, how FROM script WHERE patient = %s AND act = %s AND times > 0 "
            "ORDER BY line",
            [patient, act],
        ).fetchall()
        for line, how in told:
            if how in ("hold", "holding"):
                world.execute("UPDATE script SET how = 'holding' WHERE line = %s", [line])
                while world.execute("SELECT 1 FROM script WHERE line = %s", [line]).fetchone():
                    time.sleep(0.01)  # between two looks; nothing relies on its length
                continue
            if how.startswith("use "):
                use_room(work, how.removeprefix("use "))
                continue
            world.execute("UPDATE script SET times = times - 1 WHERE line = %s", [line])
            if how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "reject":
                raise Rejected(f"no {act} today")
            raise TROUBLES[how](f"the {act} desk is on fire")


def use_room(work: Work, name: str) -> None:
    """Write a row that others write too, and have it until the end of the transaction."""
    work.connection.execute(update(room).where(room.c.name == name).values(used=room.c.used + 1))


def _outside() -> psycopg.Connection[Any]:
    """A connection of the world outside: what is written here stays, whatever happens."""
    settings = Settings()
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value().replace("+psycopg", "")
    return psycopg.connect(url, autocommit=True, options=f"-c search_path={settings.db_schema}")


def make_engine(settings: Settings, **options: Any) -> Engine:
    """An engine as a host makes it for its own purposes."""
    assert settings.database_url is not None
    return create_engine(
        settings.database_url.get_secret_value(),
        execution_options={"schema_translate_map": places(settings)},
        **options,
    )


def create_tables(engine: Engine, settings: Settings) -> None:
    with engine.execution_options(schema_translate_map=places(settings)).begin() as connection:
        for table in tables.sorted_tables:
            connection.execute(CreateTable(table))
        connection.execute(insert(room), [{"name": "a", "used": 0}, {"name": "b", "used": 0}])


def places(settings: Settings) -> Mapping[str | None, str | None]:
    """The clinic's tables are in the framework's schema, which the test drops."""
    return {"clinic": settings.db_schema}
