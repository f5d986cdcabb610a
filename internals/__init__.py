"""The choreographed internals: bounded contexts that react to each other's messages."""

from internals.context import Context
from internals.handler import Handler
from internals.undo import no_undo
from internals.work import Work

__all__ = [
    # What a context is written with
    "Context",
    "Handler",
    "Work",
    "no_undo",
]
