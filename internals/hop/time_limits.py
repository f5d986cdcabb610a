"""Time limits: runs of handlers that take too long are ended, so that none is waited for forever.

One thread of a process looks at all runs.  When one has reached its limit:

1. The server is asked whether its session waits for a lock that another transaction holds: then the
   run gives way, and nothing is counted.  What it waited for locks before is not its own time.
2. It has failed, whatever it does from now on.  Where its session has its delivery locked, another
   thread queues for that, to write down what becomes of it before anybody claims it once more.
3. An exception is raised in its thread, and a statement that it waits for is cancelled.  Code in
   Python ends by that.
4. If it has not ended after a grace, since it hangs in a call of C or swallowed the exception, its
   database session is ended: what it had locked is free, and when it wakes it can neither write nor
   commit.
5. Its thread counts as hung.  One that is ended for the sake of its batch may take as long as any
   other before: a call of C that takes a few seconds is no reason to end a process.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from uuid import UUID

from internals.database.errors import is_lock_timeout
from internals.hop.handler_run import Run
from internals.hop.interruption import (
    OutOfTime,
    ask_about_locks,
    cancel_statement,
    close_session,
    end_session,
    raise_in_thread,
    stack_of,
)

logger = logging.getLogger(__name__)

#: Seconds that a handler may run, if neither it nor the settings say otherwise: longer than it may
#: wait for a lock that somebody holds who is frozen.
LIMIT = 75.0
#: Seconds that a handler may hold up the others of its batch.
BATCH_LIMIT = 3.0
#: Seconds from the exception to the end of the session.
GRACE = 1.0

#: Seconds between two looks, at most, and for which it looks on where nothing runs.
_INTERVAL = 0.25
_LINGERING = 10.0
#: Seconds between two looks, beyond those, after which the process is taken to have stood still.
_STOOD_STILL = 1.0


class Watch:
    """Watches the handlers that run in this process.  Safe to share between threads.

    Args:
        limit: Seconds that a handler may run which declares no limit.
        batch_limit: Seconds that one may hold up the others of its batch.
        grace: Seconds from the exception in its thread to the end of its session.
        ring: Called with a consumer whose deliveries have become free that way.
    """

    def __init__(
        self,
        *,
        limit: float = LIMIT,
        batch_limit: float = BATCH_LIMIT,
        grace: float = GRACE,
        ring: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        self.limit = limit
        self.batch_limit = batch_limit
        self.grace = grace
        #: Called, in a thread of its own, when one more thread hangs; with how many do.
        self.on_hung: Callable[[int], None] = lambda _: None
        self._ring = ring
        self._interval = min(_INTERVAL, limit / 10, batch_limit / 10, grace / 4)
        self._runs: dict[int, Run] = {}
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        #: What late runs handled whose outcome is not written yet: the consumers and the messages.
        self._unwritten: set[tuple[str, UUID]] = set()
        #: Those that write, ask or cancel something for it.
        self._others: list[threading.Thread] = []
        #: When the thread looked at runs last, or was woken to do so.
        self._looked = 0.0

    @property
    def hung(self) -> int:
        """How many threads hang in a handler whose session was ended."""
        return sum(run.hung for run in tuple(self._runs.values()))

    @property
    def running(self) -> int:
        """How many handlers run that do not hang."""
        return sum(not run.hung for run in tuple(self._runs.values()))

    def stood_still(self, run: Run) -> bool:
        """Whether the process was frozen during a run, so that its time says nothing of the handler.

        Also in the moment in which the process wakes, when the watch has not looked yet.
        """
        unseen = time.monotonic() - self._looked - self._interval
        return run.frozen > 0 or unseen > _STOOD_STILL

    def is_unwritten(self, consumer: str, message: UUID) -> bool:
        """Whether a delivery's last run was late here, and what becomes of it is being written.

        Postgres gives its lock to who comes first when that run's session ends, not to who waits.
        """
        return (consumer, message) in self._unwritten

    def over(self, run: Run, call: Callable[[], None]) -> None:
        """Call a handler in this thread, as this run.

        Raises what it raises, and the run's `error` once it was late, whatever it did then.  Its
        session is closed in that case: nobody knows in the midst of what it was.
        """
        try:
            self._enter(run)
            try:
                call()
            finally:
                self._leave(run)
        except BaseException as error:
            self._leave(run)  # the exception may have come while it was leaving
            if not run.late:
                raise
            run.blocked = run.blocked or is_lock_timeout(error)  # it was faster than the watch
            close_session(run)
            raise run.error from error
        if run.late:
            close_session(run)
            raise run.error

    def rest(self, seconds: float) -> None:
        """Wait, so long at most, until what it writes down and asks in other threads is done.

        To be called before the connections are closed.
        """
        until = time.monotonic() + seconds
        for thread in self._others:
            thread.join(max(0.0, until - time.monotonic()))

    def _in_a_thread(self, call: Callable[[Run], None], run: Run) -> None:
        thread = threading.Thread(target=call, args=(run,), name="saga-watch-one", daemon=True)
        thread.start()
        self._others = [*(each for each in self._others if each.is_alive()), thread]

    def _enter(self, run: Run) -> None:
        self._runs[id(run)] = run
        if not self._awake.is_set():
            self._looked = time.monotonic()
            self._awake.set()
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def _leave(self, run: Run) -> None:
        with run.lock:
            run.over = True
            if run.told:
                raise_in_thread(run.thread, None)  # what was not raised yet must not be later
        self._runs.pop(id(run), None)

    def _start(self) -> None:
        with self._starting:
            # A fork leaves its thread behind.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._look_on, name="saga-watch", daemon=True
                )
                self._thread.start()

    def _look_on(self) -> None:
        quiet_since = time.monotonic()
        while True:
            self._awake.wait()
            runs = tuple(self._runs.values())
            self._count_frozen(runs)
            for run in runs:
                try:
                    self._look(run)
                except Exception:
                    logger.exception("%s cannot be watched", run.name)
            now = time.monotonic()
            if any(not run.hung for run in runs):
                quiet_since = now
            elif now - quiet_since > _LINGERING:
                self._awake.clear()
                if any(not run.hung for run in tuple(self._runs.values())):
                    self._awake.set()  # it began just then
                quiet_since = now
            time.sleep(self._interval)

    def _count_frozen(self, runs: Iterable[Run]) -> None:
        """Take from each run the time since the last look in which the process stood still.

        A process may be frozen anywhere in a round, not only while this thread sleeps.
        """
        now = time.monotonic()
        stood_still = now - self._looked - self._interval
        if stood_still > _STOOD_STILL:
            for run in runs:
                run.frozen += min(stood_still, run.took)
        self._looked = now

    def _look(self, run: Run) -> None:
        if run.hung:
            return
        if not run.late:
            self._judge(run)
        elif not run.told:
            self._tell(run)
        elif not run.cut:
            if time.monotonic() > run.told_at + self.grace:
                self._end(run)
        elif run.ran(self._looked) > run.patience + self.grace:
            self._give_up_thread(run)

    def _judge(self, run: Run) -> None:
        """Find out whether a run has reached its limit; what it waited for locks does not count.

        Who waits for one when the limit has passed gives way, so that its thread is free.
        """
        ran, sampling = run.ran(self._looked), run.sampling
        if sampling.is_due(ran):
            sampling.ask(ran)
            # It may take a while to reach the server, and others are to be watched meanwhile.
            self._in_a_thread(ask_about_locks, run)
        elif sampling.heard(self.grace) and ran >= run.limit:
            # What it waits for nobody can say once its statement is cancelled.
            run.blocked = sampling.blocked
            if run.blocked or ran - sampling.waited >= run.limit:
                self._fail(run)

    def _fail(self, run: Run) -> None:
        with run.lock:
            if run.over:
                return
            if run.locked:
                run.settled = threading.Event()
            run.late = True
        logger.warning(
            "%s has run for its limit of %g s, at\n%s", run.name, run.limit, stack_of(run.thread)
        )
        if run.locked:
            self._unwritten.add((run.consumer, run.message.id))
            self._in_a_thread(self._settle, run)

    def _tell(self, run: Run) -> None:
        with run.lock:
            if run.over:
                return
            run.told, run.told_at = True, time.monotonic()
            raise_in_thread(run.thread, OutOfTime)
        self._in_a_thread(cancel_statement, run)

    def _end(self, run: Run) -> None:
        stack = stack_of(run.thread)
        with run.lock:
            if run.over:
                return
            run.cut = True
            end_session(run)
        logger.log(
            logging.ERROR if run.patience <= run.limit else logging.WARNING,
            "%s does not end: its database session is ended, and its thread %d is at\n%s",
            run.name,
            run.thread,
            stack,
        )
        self._in_a_thread(self._let_go, run)

    def _give_up_thread(self, run: Run) -> None:
        with run.lock:
            if run.over:
                return
            run.hung = True
        self._in_a_thread(lambda _: self.on_hung(self.hung), run)

    def _let_go(self, run: Run) -> None:
        """Have others take up what a thread that hangs had claimed."""
        if run.locked:
            run.outcome()
        else:
            self._settle(run)
        self._ring(frozenset({run.consumer}))

    def _settle(self, run: Run) -> None:
        try:
            run.woken = run.give_up(run)
        except Exception:
            # The delivery is free then, and the next one who takes it finds out as this one did.
            logger.warning("%s: its outcome cannot be stored", run.name, exc_info=True)
        finally:
            self._unwritten.discard((run.consumer, run.message.id))
            if run.settled is not None:
                run.settled.set()
