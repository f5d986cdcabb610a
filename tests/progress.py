"""A bound on progress: what hangs fails, and says what was still open."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Hung(BaseException):
    """It did not come to an end.

    No `except Exception` of what hangs swallows it, and Hypothesis tries no smaller examples, each
    of which would hang as long.
    """


@contextmanager
def coming_to_an_end(seconds: float, tell: Callable[[], str]) -> Iterator[None]:
    """Raise `Hung` in the main thread if the block takes longer, wherever it is just then.

    Args:
        seconds: A generous bound: it is no measurement.
        tell: Says what is still open, and how to have the same again.
    """
    running = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        if running:
            raise Hung

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main == threading.get_ident(), "signals come to the main thread"
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    try:
        yield
    except Hung:
        running = False
        raise Hung(f"it did not come to an end in {seconds:.0f} s; {tell()}") from None
    finally:
        running = False
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)
