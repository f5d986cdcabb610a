"""Declarations: whether sagas and contexts of one application fit each other."""

from collections.abc import Iterable, Mapping
from typing import Any

from internals.context import Context
from saga.definition import Saga
from saga.errors import DefinitionError
from saga.messages import Event, Message
from saga.validation.kinds import check_readable


def sagas_by_name(sagas: Iterable[Saga[Any]]) -> dict[str, dict[int, Saga[Any]]]:
    """Return sagas by name and version; raises `DefinitionError` for a version given twice."""
    found: dict[str, dict[int, Saga[Any]]] = {}
    for saga in sagas:
        versions = found.setdefault(saga.name, {})
        if saga.version in versions:
            raise DefinitionError(
                f"Saga {saga.name!r}: version {saga.version} is given twice; raise the version "
                "of the changed one"
            )
        versions[saga.version] = saga
    return found


def unique_contexts(contexts: Iterable[Context]) -> tuple[Context, ...]:
    """Return each context once; raises `DefinitionError` for two of one name."""
    found: dict[str, Context] = {}
    for context in contexts:
        if found.setdefault(context.name, context) is not context:
            raise DefinitionError(f"two contexts are called {context.name!r}")
    return tuple(found.values())


def check_messages(
    sagas: Mapping[str, Mapping[int, Saga[Any]]], contexts: Iterable[Context]
) -> None:
    """Raise `DefinitionError` if what one context sends can never be read by another, or a saga.

    Two classes of one kind are fine as long as one can be read with the other.
    """
    contexts = list(contexts)
    readers: list[tuple[type[Message], str]] = [
        (handler.message, f"context {context.name}")
        for context in contexts
        for handler in context.handlers.values()
    ]
    readers += [
        (event, f"saga {saga.name}")
        for versions in sagas.values()
        for saga in versions.values()
        for event in saga.events
    ]
    by_kind: dict[str, list[tuple[type[Message], str]]] = {}
    for cls, reader in readers:
        by_kind.setdefault(cls.kind, []).append((cls, reader))
    for context in contexts:
        for handler in context.handlers.values():
            for emitted in handler.emits:
                for cls, reader in by_kind.get(emitted.kind, ()):
                    check_readable(emitted, f"context {context.name}", cls, reader)


def check_event(event: object) -> None:
    """Raise `TypeError` for what is no event that can be published."""
    if not isinstance(event, Event):
        raise TypeError(
            f"publish() takes an Event, not {type(event).__name__}; a saga's step or a handler "
            "sends a command"
        )
    if not event.kind:
        raise TypeError(f"publish(): {type(event).__name__} declares no kind, so nobody gets it")
