"""Story: what a demo that plays one says, checks and waits for."""

import time
from collections.abc import Callable

#: Seconds that anything may take.
_PATIENCE = 60.0


class NotHeld(Exception):
    """Something is not as the story has it."""


def must(held: bool, what: str) -> None:
    """Say what holds; raises `NotHeld` if it does not."""
    if not held:
        raise NotHeld(what)
    say(f"✓ {what}")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; raises `NotHeld` if it takes too long."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise NotHeld(what)
        time.sleep(0.05)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - a demo talks
