"""Each field of a message is stored, and comes back as it was, whichever way it goes."""

import json
import re
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import internals
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.remote.statements import remote_statements
from internals.store.json_rows import records
from internals.store.message_columns import (
    FROM_BATCH,
    from_json_object,
    to_json_object,
    to_record,
)
from internals.store.tables import outbox
from saga import Category, Envelope, Retry

#: Columns of the outbox that the store fills by itself.
_OF_THE_STORE = {"seq", "sent_at", "repeats", "given_up"}


def full() -> Envelope:
    """Return a message each field of which has a value of its own."""
    return Envelope(
        id=uuid4(),
        kind="scales.weigh",
        category=Category.COMMAND,
        payload='{"grams": 1.5}',
        saga_id=uuid4(),
        saga="trip",
        causation_id=uuid4(),
        root_id=uuid4(),
        recipient="scales",
        sender="saga.trip",
        awaits=("scales.weighed", "scales.broken"),
        retry=Retry(attempts=3, backoff=timedelta(seconds=2), never=("a",), always=("b",)),
        delay=0.001,
        intent=uuid4(),
        undoes="scales:1",
        depth=7,
        origin='{"bridge": "partners"}',
    )


def values(message: Envelope) -> dict[str, Any]:
    """Return all fields of a message, also those that `==` passes over."""
    return {field.name: getattr(message, field.name) for field in fields(Envelope)}


def claimed(store: Any, message: Envelope) -> dict[str, Any]:
    with store.transaction() as unit:
        ((found,), _) = store.inbox("scales").claim(unit, limit=1)
    assert found.message.id == message.id
    return values(found.message)


def test_each_column_of_the_table_is_a_field_or_the_store_s_own() -> None:
    assert set(FROM_BATCH) == {column.name for column in outbox.columns} - _OF_THE_STORE


def test_the_message_of_these_tests_has_a_value_in_each_field() -> None:
    unset = {
        field.name
        for field in fields(Envelope)
        if field.default is not MISSING and getattr(full(), field.name) == field.default
    }
    assert unset == set()


def test_sent_and_claimed_it_is_the_same(store: Any) -> None:
    message = full()
    store.send(message)
    store.make_due()
    # The delay is over by then, and no field of what is stored.
    assert claimed(store, message) == values(message) | {"delay": 0.0}


def test_forwarded_and_claimed_it_is_the_same(store: Any) -> None:
    message = full()
    record = {**to_record(message), "given_up": False, "applied": None}
    asked = {"messages": records([record]), "consumer": "scales", "parcels": "scales.parcels"}
    with store.engine.begin() as connection:
        unit = SqlAlchemyUnitOfWork(connection)
        unit.run(remote_statements(store.schema).forward, {**asked, "grace": 1.0})
    assert claimed(store, message) == values(message) | {"delay": 0.0}


def test_in_the_json_of_another_database_it_is_the_same() -> None:
    message = full()
    text = json.dumps(to_json_object(message))
    assert values(from_json_object(json.loads(text))) == values(message)


def test_json_of_another_release_is_read() -> None:
    """An older release does not write the newest field, and a newer one writes more."""
    stored = {**to_json_object(full()), "of_a_later_release": 1}
    del stored["depth"], stored["origin"]
    read = from_json_object(stored)
    assert (read.depth, read.origin, read.kind) == (0, None, "scales.weigh")


def test_without_a_root_it_is_its_own(store: Any) -> None:
    message = Envelope(uuid4(), "scales.weigh", Category.COMMAND, "{}", recipient="scales")
    store.send(message)
    root: UUID = claimed(store, message)["root_id"]
    assert root == message.id


def test_one_builder_makes_every_insert_into_the_outbox() -> None:
    root = Path(internals.__file__).parents[1]
    inserting = {
        str(path.relative_to(root))
        for package in ("internals", "boundary")
        for path in (root / package).rglob("*.py")
        if re.search(r"INSERT INTO \S*outbox", path.read_text(), re.IGNORECASE)
    }
    assert inserting == {"internals/store/message_columns.py"}
