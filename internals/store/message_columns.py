"""Columns of a message: how each field of an `Envelope` is stored, written and read back.

`_COLUMNS` is the only list of them.  The columns of every SELECT that returns a message come from it,
those of every INSERT into the outbox, the records of a batch, and the JSON in which a context's own
database sends messages home: an ordinary new field is one line.  Columns that the store fills by
itself (`seq`, `sent_at`, `repeats`, `given_up`) are not fields of an `Envelope`.

All texts are built once, at import.  Placeholders are those of `internals.store.sql`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

from internals.store.json_rows import Raw, Value
from saga.envelope import Category, Envelope
from saga.retry import Retry


def retry_to_json(retry: Retry | None) -> str | None:
    """Return a policy as it is stored with a message."""
    if retry is None:
        return None
    return json.dumps(
        {
            "attempts": retry.attempts,
            "backoff": retry.backoff.total_seconds(),
            "cap": retry.cap.total_seconds(),
            "never": retry.never,
            "always": retry.always,
        }
    )


def retry_from_json(text: str | None) -> Retry | None:
    """Read what `retry_to_json` wrote."""
    if text is None:
        return None
    stored = json.loads(text)
    return Retry(
        attempts=stored["attempts"],
        backoff=timedelta(seconds=stored["backoff"]),
        cap=timedelta(seconds=stored["cap"]),
        never=tuple(stored["never"]),
        always=tuple(stored["always"]),
    )


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the outbox that holds a field of an `Envelope`."""

    name: str
    #: Its type in the JSON of a batch.
    type: str
    #: The field's name, if it is not the column's.
    field: str = ""
    #: Return what a batch holds for the field's value, which is not None.
    write: Callable[[Any], Value] = _same
    #: Return the field's value for what a row holds, which is not NULL.
    read: Callable[[Any], Any] = _same
    #: What a SELECT reads and an INSERT of a batch writes, if it is not the plain column.
    selected: str = ""
    inserted: str = ""


_COLUMNS = (
    _Column("id", "uuid"),
    _Column("kind", "text"),
    _Column("category", "text", write=attrgetter("value"), read=Category),
    _Column("payload", "jsonb", write=Raw, selected="o.payload::text"),
    _Column("saga_id", "uuid"),
    _Column("saga", "text"),
    _Column("causation_id", "uuid"),
    _Column("root_id", "uuid", inserted="coalesce(root_id, id)"),
    _Column("recipient", "text"),
    _Column("sender", "text"),
    _Column(
        "awaits",
        "text",
        write=lambda kinds: ",".join(kinds) or None,
        read=tuple,
        inserted="string_to_array(coalesce(awaits, ''), ',')",
    ),
    _Column(
        "retry",
        "jsonb",
        write=lambda retry: Raw(retry_to_json(retry)),
        read=retry_from_json,
        selected="o.retry::text",
    ),
    _Column("intent_id", "uuid", field="intent"),
    _Column("undoes", "text"),
    _Column("depth", "int"),
    _Column("origin", "text"),
)

_NAMES = tuple(c.name for c in _COLUMNS)
_FIELDS = tuple(c.field or c.name for c in _COLUMNS)
_values: Callable[[Envelope], tuple[Any, ...]] = attrgetter(*_FIELDS)
_WRITES = tuple((c.name, c.write) for c in _COLUMNS if c.write is not _same)
_READS = tuple(
    (field, c.read) for field, c in zip(_FIELDS, _COLUMNS, strict=True) if c.read is not _same
)

#: What a SELECT reads of a message, a row `o` of the outbox: the columns that `from_row` takes.
SELECTED = ", ".join(c.selected or f"o.{c.name}" for c in _COLUMNS)

#: How many columns these are.
SELECTED_COUNT = len(_COLUMNS)

#: The columns of a batch of messages, for `json_to_recordset`.
BATCH_COLUMNS = ", ".join(f"{c.name} {c.type}" for c in _COLUMNS)

#: What `insert_messages` takes for the messages of such a batch.
FROM_BATCH: Mapping[str, str] = {c.name: c.inserted or c.name for c in _COLUMNS}


def insert_messages(values: Mapping[str, str], source: str) -> str:
    """Return an INSERT into the outbox; all of ours are made here.

    Args:
        values: SQL expressions by column.  A column that is left out has its default.
        source: What follows the SELECT of these: where they come from, and any other clause.
    """
    return (
        f"INSERT INTO {{schema}}.outbox ({', '.join(values)})\n"
        f"    SELECT {', '.join(values.values())}\n    {source}"
    )


def to_record(message: Envelope) -> dict[str, Value]:
    """Return a message as a batch has it."""
    record: dict[str, Value] = dict(zip(_NAMES, _values(message), strict=True))
    for name, write in _WRITES:
        if (value := record[name]) is not None:
            record[name] = write(value)
    return record


def from_row(row: Sequence[Any]) -> Envelope:
    """Return the message of a row with the columns of `SELECTED`."""
    fields = dict(zip(_FIELDS, row, strict=True))
    for field, read in _READS:
        if (value := fields[field]) is not None:
            fields[field] = read(value)
    return Envelope(**fields)


def to_json_object(message: Envelope) -> dict[str, Any]:
    """Return a message for `json.dumps`, with its delay.

    The payload in it is a text, so that it comes back unchanged.
    """
    fields = dict(zip(_FIELDS, map(_plain, _values(message)), strict=True))
    return {**fields, "delay": message.delay}


def _plain(value: Any) -> Any:
    match value:
        case UUID():
            return str(value)
        case Retry():
            return retry_to_json(value)
        case _:
            return value


_JSON_READS: Mapping[str, Callable[[Any], Any]] = {
    "delay": _same,
    **{
        field: UUID if c.type == "uuid" else c.read
        for field, c in zip(_FIELDS, _COLUMNS, strict=True)
    },
}


def from_json_object(stored: Mapping[str, Any]) -> Envelope:
    """Return the message of what `to_json_object` returned, here or in another release.

    A field that is unknown here is ignored, and one that is missing has its default.
    """
    fields: dict[str, Any] = {
        field: None if stored[field] is None else read(stored[field])
        for field, read in _JSON_READS.items()
        if field in stored
    }
    return Envelope(**fields)
