"""Reference: how an operator names a saga: by id, by ``name:key`` or by its key alone."""

from uuid import UUID

from boundary.queries.query import query
from internals.database.unit_of_work import UnitOfWork
from saga.errors import UnknownSaga
from saga.state import Status

# Keys are indexed under their saga's name, so the names are found first, one index probe each.
_FIND = """
WITH RECURSIVE names AS (
    (SELECT name FROM {schema}.saga ORDER BY name LIMIT 1)
    UNION ALL
    SELECT (SELECT s.name FROM {schema}.saga AS s WHERE s.name > n.name ORDER BY s.name LIMIT 1)
    FROM names AS n WHERE n.name IS NOT NULL
)
SELECT id, name, key FROM {schema}.saga WHERE id = %(id)s::uuid
UNION
SELECT id, name, key FROM {schema}.saga WHERE name = %(name)s::text AND key = %(key)s::text
UNION
SELECT s.id, s.name, s.key FROM names JOIN {schema}.saga AS s ON s.name = names.name
WHERE s.key = %(reference)s
ORDER BY name
LIMIT 5
"""


_BY_KEY = "SELECT id FROM {schema}.saga WHERE name = %(name)s AND key = %(key)s"

_STATUS = "SELECT status FROM {schema}.saga WHERE id = %(id)s"


def find_saga(unit: UnitOfWork, schema: str, reference: str | UUID) -> UUID:
    """Return the id of the saga that an operator means.

    Raises `UnknownSaga` for none, and for a key that sagas of several names have.
    """
    text = str(reference)
    name, colon, key = text.partition(":")
    rows = query(
        unit,
        schema,
        _FIND,
        id=as_uuid(text),
        name=name if colon else None,
        key=key if colon else None,
        reference=text,
    )
    if not rows:
        raise UnknownSaga(f"no saga has the id or key {text!r}; `saga list` shows those there are")
    if len(rows) > 1:
        found = " or ".join(f"{name}:{key}" for _, name, key in rows)
        raise UnknownSaga(f"several sagas have the key {text!r}; say which: {found}")
    id: UUID = rows[0][0]
    return id


def saga_of_key(unit: UnitOfWork, schema: str, name: str, key: str) -> UUID:
    """Return the id of the saga of this name that has this business key.

    Raises `UnknownSaga` for none.
    """
    rows = query(unit, schema, _BY_KEY, name=name, key=key)
    if not rows:
        raise UnknownSaga(f"no saga {name} has the key {key!r}")
    id: UUID = rows[0][0]
    return id


def saga_status(unit: UnitOfWork, schema: str, id: UUID) -> Status:
    """Return the status of the saga with this id; raises `UnknownSaga` for none."""
    rows = query(unit, schema, _STATUS, id=id)
    if not rows:
        raise UnknownSaga(
            f"there is no saga {id}; if it was started just now, its start is not committed yet"
        )
    return Status(rows[0][0])


def as_uuid(text: str) -> UUID | None:
    """Return the id that a text is, or None if it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None
