"""Undo: how a handler declares that its work cannot be undone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NoUndo:
    """A handler's work stands for good: what it did cannot be undone, for this reason."""

    reason: str


def no_undo(reason: str) -> NoUndo:
    """Declare that what a handler does cannot be undone; the reason is in the report."""
    return NoUndo(reason)
