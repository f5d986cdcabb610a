"""Act words: what is kept of who did an act, and why."""

from internals.database.errors import storable
from saga.errors import PayloadError

#: Characters that are kept of why an act was done, and of who did it.
MAX_REASON = 2000
MAX_ACTOR = 200


def check_words(actor: str, reason: str) -> None:
    """Raise `PayloadError` for a reason that is blank, and for what cannot be kept as it is."""
    if not reason.strip():
        raise PayloadError("give a reason: it is kept with the act")
    for text, of, most in ((reason, "a reason", MAX_REASON), (actor, "an actor", MAX_ACTOR)):
        if len(text) > most:
            raise PayloadError(f"{of} has {most:,} characters at most, not {len(text):,}")
        if storable(text) != text:
            raise PayloadError(f"{of} has a character that Postgres refuses, such as NUL")
