"""JSON text: how messages and sagas' data are written, and read back.

What is written must come back as it was, or it is refused.  What is read may have been written by
another release: fields that the class lacks are ignored.
"""

import json
import re
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, time
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from saga.errors import PayloadError

M = TypeVar("M", bound=BaseModel)

#: A NUL as JSON writes it, and not a backslash that happens to stand before "u0000".
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def dump_json(model: BaseModel, name: str) -> str:
    """Return a model as JSON text that Postgres can store; `name` is for the error.

    Fields have their own names, whatever their aliases; computed fields are left out.  Equal
    models give equal text: sets are written in order.

    Raises `PayloadError` for what would not come back as it was: NaN and infinity (JSON has
    neither), NUL characters (Postgres stores none), and what pydantic cannot write.
    """
    try:
        text = _written(model)
    except (ValueError, TypeError) as error:
        raise PayloadError(f"{name}: cannot be written as JSON") from error
    check_storable(text, name)
    try:
        back = type(model).model_validate_json(text, by_alias=False, by_name=True)
    except ValidationError as error:
        raise PayloadError(f"{name}: {first_problem(error)}") from error
    if not same(model, back):
        raise PayloadError(f"{name}: it does not come back equal from JSON; use plain fields")
    return text


def check_storable(text: str, name: str) -> None:
    """Raise `PayloadError` for JSON text that holds a NUL character."""
    if _NUL.search(text):
        raise PayloadError(f"{name}: a text contains a NUL character, which Postgres refuses")


def read_json(cls: type[M], text: str | bytes) -> M:
    """Read a model that another release may have written; raises pydantic's `ValidationError`.

    Unknown fields are ignored at any depth, and a field may have its alias for a name.
    """
    try:
        return read_exactly(cls, text)
    except ValidationError:
        pass
    try:  # a model that allows additional fields keeps them
        return cls.model_validate_json(text, by_alias=True, by_name=True)
    except ValidationError:
        return cls.model_validate_json(text, extra="ignore", by_alias=True, by_name=True)


def read_exactly(cls: type[M], text: str | bytes) -> M:
    """Read what has no field that the class lacks, by the fields' own names, as `dump_json` writes.

    Raises pydantic's `ValidationError` for anything else.
    """
    return cls.model_validate_json(text, extra="forbid", by_alias=False, by_name=True)


def first_problem(error: ValidationError) -> str:
    """One clause of pydantic's report, without the value: payloads never reach a log."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "payload"
    return f"field {where}: {first['msg']}"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, as far as JSON can hold what they are.

    Python finds a time of the hour that comes twice unequal to the same time with another
    `tzinfo`; and a model unequal to one whose private attributes differ.
    """
    try:
        if bool(one == other):
            return True
    except Exception:  # a user's __eq__ raised: nobody can say that they are equal
        return False
    if isinstance(one, datetime | time) and isinstance(other, datetime | time):
        return one.isoformat() == other.isoformat()
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        fields = {**_fields(one), **(one.model_extra or {})}
        others = {**_fields(other), **(other.model_extra or {})}
        return _same_values(fields, others)
    if isinstance(one, Mapping):
        return _same_values(one, other)
    if isinstance(one, Set):
        return _same_items(_ordered(one), _ordered(other))
    if isinstance(one, Sequence) and not isinstance(one, str | bytes | bytearray):
        return _same_items(one, other)
    return False


def _fields(model: BaseModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}


def _same_values(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    if one.keys() == other.keys():
        return all(same(value, other[key]) for key, value in one.items())
    return _same_items(list(one.keys()), list(other.keys())) and _same_items(
        list(one.values()), list(other.values())
    )


def _same_items(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


def _ordered(items: Set[Any]) -> list[Any]:
    """Times that Python cannot find in the other set stand at the same place of both."""
    return sorted(items, key=lambda item: getattr(item, "isoformat", item.__repr__)())


def _written(model: BaseModel) -> str:
    text = model.model_dump_json(by_alias=False, round_trip=True)
    if not _may_hold_sets(type(model)):
        return text
    return compact(_with_ordered_sets(model, json.loads(text)))


def compact(tree: Any) -> str:
    """Return JSON text as pydantic writes it; raises ValueError for NaN and infinity."""
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@lru_cache(maxsize=1024)
def _may_hold_sets(cls: type[BaseModel]) -> bool:
    return _mentions_sets(cls.__pydantic_core_schema__)


def _mentions_sets(schema: Any) -> bool:
    if isinstance(schema, dict):
        if schema.get("type") in ("set", "frozenset"):
            return True
        return any(_mentions_sets(part) for name, part in schema.items() if name != "metadata")
    return isinstance(schema, list | tuple) and any(map(_mentions_sets, schema))


def _with_ordered_sets(value: Any, written: Any) -> Any:
    """Order the items of sets in JSON that `value` was written as.

    A set's own order differs from process to process, and its items were written in that order.
    """
    if isinstance(value, RootModel):
        return _with_ordered_sets(value.root, written)
    if isinstance(value, BaseModel) and isinstance(written, dict):
        values = {**_fields(value), **(value.model_extra or {})}
        return {k: _with_ordered_sets(values.get(k), part) for k, part in written.items()}
    if hasattr(value, "__dataclass_fields__") and isinstance(written, dict):
        return {k: _with_ordered_sets(getattr(value, k, None), p) for k, p in written.items()}
    if not isinstance(value, Mapping | Set | Sequence) or isinstance(value, str | bytes):
        return written
    if isinstance(value, Mapping):
        if not isinstance(written, dict) or len(value) != len(written):
            return written
        pairs = zip(written.items(), value.values(), strict=True)
        return {key: _with_ordered_sets(item, part) for (key, part), item in pairs}
    if not isinstance(written, list) or len(value) != len(written):
        return written
    parts = [_with_ordered_sets(item, part) for item, part in zip(value, written, strict=True)]
    return sorted(parts, key=_sortable) if isinstance(value, Set) else parts


def _sortable(part: Any) -> str:
    return json.dumps(part, sort_keys=True)
