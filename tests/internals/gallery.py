"""A gallery whose handler hangs pictures."""

from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from internals import Context, Work
from saga import Command, Event


class Hang(Command, kind="gallery.hang"):
    n: int = 0


class Hung(Event, kind="gallery.hung"):
    pass


class Tables(DeclarativeBase):
    """The gallery's own."""


class Effect(Tables):
    __tablename__ = "effect"
    n: Mapped[int] = mapped_column(primary_key=True)


def gallery(handle: Any, **declared: Any) -> Context:
    context = Context("gallery")
    context.handles(Hang, **declared)(handle)
    return context


def work(unit: Any, command: Any, *emits: Any) -> Work:
    return Work(command(Hang()), consumer="gallery", emits=emits, unit=unit)
