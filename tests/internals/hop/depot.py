"""A depot, whose one handler each test brings along."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from internals import Context, Work
from saga import Command, Event


class Pack(Command, kind="depot.pack"):
    n: int = 0


class Label(Command, kind="depot.label"):
    n: int = 0


class Packed(Event, kind="depot.packed"):
    n: int = 0


Handle = Callable[[Pack, Work], None]


def depot(handle: Handle, **declared: Any) -> Context:
    """A context whose one handler is this function."""
    context = Context("depot")
    context.handles(Pack, **declared)(handle)
    return context


def silent(_: frozenset[str]) -> None:
    """Ring nobody."""


def nothing(_: Command, work: Work) -> None:
    """A handler that has nothing to do."""


def tell_packed(_: Pack, work: Work) -> None:
    work.publish(Packed())


def order_label(_: Pack, work: Work) -> None:
    work.send(Label())


def sent_by(store: Any, cause: UUID) -> list[str]:
    rows = store.rows("SELECT kind FROM outbox WHERE causation_id = %s ORDER BY seq", cause)
    return [row["kind"] for row in rows]


def fail(message: Pack, work: Work) -> None:
    raise ValueError("no such shelf")
