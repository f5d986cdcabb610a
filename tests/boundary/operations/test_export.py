"""The export is complete, of one moment, and in the format that its page documents."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from boundary.operations.export import FORMAT, export
from boundary.runtime import Runtime
from internals import Context
from saga import Command, Saga, Step
from tests.conftest import ROOT


class Row(BaseModel):
    n: int


class Pull(Command, kind="oars.pull"):
    n: int


oars = Context("oars")


@oars.handles(Pull)
def pull(command: Pull, work: object) -> None: ...


def crossing(name: str) -> Saga[Row]:
    return Saga(name=name, data=Row, steps=(Step("pull", lambda row: Pull(n=row.n)),))


LAKE, RIVER = crossing("lake"), crossing("river")


@pytest.fixture
def crossed(runtime: Callable[..., Runtime]) -> Runtime:
    one = runtime([LAKE, RIVER], [oars])
    with one.engine.begin() as connection:
        one.start(connection, LAKE, Row(n=1))
        one.start(connection, RIVER, Row(n=2))
    while sum(one.answer(name) for name in one._wiring.consumers):
        pass
    return one


def lines(one: Runtime, **only: Any) -> list[dict[str, Any]]:
    with one.engine.connect() as connection:
        return [json.loads(line) for line in export(connection, one.settings.db_schema, **only)]


def test_everything_is_there_once(crossed: Runtime) -> None:
    found = lines(crossed)
    with crossed.engine.connect() as connection:
        for type_, table in (("saga", "saga"), ("message", "outbox"), ("delivery", "inbox")):
            stored = connection.scalar(text(f"SELECT count(*) FROM {table}"))
            assert sum(line["type"] == type_ for line in found) == stored > 0
    assert {line["format"] for line in found} == {FORMAT}
    assert {s["status"] for s in found if s["type"] == "saga"} == {"completed"}


def test_one_saga_by_name(crossed: Runtime) -> None:
    found = lines(crossed, saga="lake")
    assert {s["name"] for s in found if s["type"] == "saga"} == {"lake"}
    assert {m["saga"] for m in found if m["type"] == "message"} == {"lake"}
    ids = {m["id"] for m in found if m["type"] == "message"}
    assert {d["message_id"] for d in found if d["type"] == "delivery"} == ids


def test_only_what_is_new_enough(crossed: Runtime) -> None:
    assert lines(crossed, since=timedelta(hours=1)) == lines(crossed)
    with crossed.engine.begin() as connection:
        for table, column in (("saga", "started_at"), ("outbox", "sent_at")):
            connection.execute(text(f"UPDATE {table} SET {column} = now() - interval '2 hours'"))
    assert lines(crossed, since=timedelta(hours=1)) == []


@pytest.mark.parametrize("type_", ["saga", "message", "delivery"])
def test_the_page_names_every_field(crossed: Runtime, type_: str) -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{type_}`"))
    documented = set(re.findall(r"`(\w+)`", row))
    line = next(line for line in lines(crossed) if line["type"] == type_)
    assert set(line) - {"format", "type"} <= documented
