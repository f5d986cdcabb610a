"""Kinds: whether two message classes that one declaration uses share a wire name."""

from collections.abc import Iterable

from saga.errors import DefinitionError
from saga.messages import Message


def check_kinds(classes: Iterable[type[Message]], of: str) -> None:
    """Raise `DefinitionError` if two of these classes have the same kind.

    A class that was defined again by a reload, or by a notebook's cell that ran again, is the same.

    Args:
        classes: The message classes of one declaration.
        of: What it declares, to begin a sentence with.
    """
    known: dict[str, type[Message]] = {}
    for cls in classes:
        other = known.setdefault(cls.kind, cls)
        if _is_another(cls, other):
            raise DefinitionError(
                f"{of} uses two classes of kind {cls.kind!r}, {_name(other)} and {_name(cls)}; "
                "give one of them a kind of its own"
            )


def check_readable(made: type[Message], made_by: str, read: type[Message], read_by: str) -> None:
    """Raise `DefinitionError` if what is made with one class can never be read with another.

    Each context may have a class of its own for the same event, with the fields that it needs.

    Args:
        made: The class that is sent.
        made_by: Who sends it, for the sentence.
        read: A class of the same kind that it is read with.
        read_by: Who reads it, for the sentence.
    """
    if made.kind != read.kind or not _is_another(made, read):
        return
    missing = [
        name
        for name, field in read.model_fields.items()
        if field.is_required() and name not in made.model_fields
    ]
    if missing:
        raise DefinitionError(
            f"kind {made.kind!r} has two classes: {made_by} sends {_name(made)}, which has no field "
            f"{missing[0]!r}, and {read_by} reads {_name(read)}, which requires it; give one of "
            "them a kind of its own, or use one class"
        )


def _is_another(one: type[Message], other: type[Message]) -> bool:
    return one is not other and _name(one) != _name(other)


def _name(cls: type[Message]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
