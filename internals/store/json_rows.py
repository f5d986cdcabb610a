"""JSON rows: rows as one JSON text, for the set-based statements.

A batch goes to Postgres as one parameter that ``json_to_recordset`` takes apart.  An array for each
column costs several times as much: the driver writes those element by element.  What is JSON
already, a payload or a saga's data, goes in as it is.
"""

from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any
from uuid import UUID

Value = str | int | float | bool | UUID | None


class Raw(str):
    """A text that is JSON already."""

    __slots__ = ()


def records(rows: Iterable[Mapping[str, Value]]) -> str:
    """Return rows as a JSON array of objects; a null is left out, as it reads the same."""
    return "[" + ",".join(_record(row) for row in rows) + "]"


def _record(row: Mapping[str, Value]) -> str:
    return (
        "{"
        + ",".join([f'"{name}":{_WRITE[type(v)](v)}' for name, v in row.items() if v is not None])
        + "}"
    )


class _Writers(dict[type, Callable[[Any], str]]):
    """What writes a value of each type; a subclass, such as a saga's handle, as its base."""

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        for base in kind.__mro__[1:]:
            if base in self:
                self[kind] = self[base]
                return self[kind]
        raise KeyError(kind)


_WRITE: Mapping[type, Callable[[Any], str]] = _Writers(
    {
        str: encode_basestring_ascii,
        Raw: str,
        UUID: lambda value: f'"{value.int:032x}"',  # as `str` has it, but for the hyphens
        int: int.__repr__,
        float: float.__repr__,
        bool: {True: "true", False: "false"}.__getitem__,
    }
)
