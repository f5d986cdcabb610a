"""Lock sampling: how long a run waited for locks that others held, which is not its handler's fault.

The server is asked now and then.  Where a run waits, it is taken to have waited since the question
before.
"""

import time

#: Questions until a run reaches its limit.
_QUESTIONS = 8


class LockSampling:
    """What the server said of one run.  Asked by the watch; answered in another thread.

    Args:
        limit: Seconds that the run may take.
        often: Whether to ask before the limit too.
    """

    __slots__ = ("_answered", "_asked_at", "_every", "_next", "_seen", "_span", "blocked", "waited")

    def __init__(self, limit: float, *, often: bool) -> None:
        #: Whether it waited for a lock at the last question, as far as the server has said.
        self.blocked = False
        #: Seconds for which it waited for locks.
        self.waited = 0.0
        self._every = limit / _QUESTIONS if often else limit
        self._next = self._every
        self._seen = self._span = 0.0
        self._asked_at: float | None = None
        self._answered = False

    def is_due(self, ran: float) -> bool:
        """Whether to ask, after so many seconds of the run."""
        return self._asked_at is None and ran >= self._next

    def ask(self, ran: float) -> None:
        """A question is put, after so many seconds of the run."""
        self._asked_at = time.monotonic()
        self._answered = self.blocked = False
        self._span, self._seen = ran - self._seen, ran
        self._next += self._every * (1 + (ran - self._next) // self._every)

    def answer(self, blocked: bool | None) -> None:
        """The server said whether it waits for a lock; None if it said nothing."""
        self.blocked = bool(blocked)
        if blocked:
            self.waited += self._span
        self._answered = True

    def heard(self, patience: float) -> bool:
        """Whether the question was answered since the last call, or was not for so many seconds."""
        asked_at = self._asked_at
        if asked_at is None or not (self._answered or time.monotonic() > asked_at + patience):
            return False
        self._asked_at = None
        return True
