"""Ordering field: whether an event has the field that its deliveries are to be ordered by."""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, is_typeddict

from pydantic import BaseModel

from saga.errors import DefinitionError


def check_ordered_by(model: type[BaseModel], path: str, of: str) -> None:
    """Raise `DefinitionError` for a dotted path that leads to no field of an event.

    Args:
        model: The event class.
        path: Such as ``flight``, or ``flight.number`` within another model.
        of: What the path is declared for, to begin a sentence with.
    """
    reached: list[Any] = [model]
    for part in path.split("."):
        found = [inner for each in reached for inner in _within(each, part)]
        if not found:
            fields = [name for each in reached for name in _fields(each)]
            raise DefinitionError(
                f"{of} has no field {path!r} to be ordered by; it has {', '.join(fields) or 'none'}"
                + (f" where {part!r} is named" if part != path.partition(".")[0] else "")
            )
        reached = [each for inner in found for each in _alternatives(inner)]


def _alternatives(annotation: Any) -> list[Any]:
    """What a value of this type may be: the parts of a union, without None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [one for arg in get_args(annotation) for one in _alternatives(arg)]
    return [] if annotation is type(None) else [annotation]


def _fields(of: Any) -> Mapping[str, Any]:
    """The fields of a type that has named ones, with their types."""
    if isinstance(of, type) and issubclass(of, BaseModel):
        return {name: field.annotation for name, field in of.model_fields.items()}
    if hasattr(of, "__dataclass_fields__"):
        return dict.fromkeys(of.__dataclass_fields__, Any)
    return dict.fromkeys(of.__annotations__, Any) if is_typeddict(of) else {}


def _within(of: Any, part: str) -> list[Any]:
    """The types that this part of a value may have; empty where there is no such part."""
    if fields := _fields(of):
        return [fields[part]] if part in fields else []
    if of is Any or of is object or not isinstance(get_origin(of) or of, type):
        return [Any]  # what is within is not declared
    container = get_origin(of) or of
    if issubclass(container, Mapping):
        return [get_args(of)[1] if len(get_args(of)) == 2 else Any]
    if issubclass(container, Sequence) and not issubclass(container, str | bytes):
        return [Any] if part.lstrip("-").isdigit() else []
    return []
