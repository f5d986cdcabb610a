"""Hung threads: what a worker process does when its threads hang in handlers that cannot be ended.

A call of C that never returns keeps its thread for ever, and a process can neither end the thread
nor do without all of them.  While most threads are free it goes on, since what the others had
claimed is free by now.  When half of them hang it ends itself: Dramatiq then stops the processes
beside it and ends too, and the supervisor that started it starts it again.
"""

import logging
import os
import time
from typing import Any

from boundary.doorbell.served import Served

logger = logging.getLogger(__name__)

#: The status with which such a process ends.
STATUS = 70


class LeavesWhenHanging:
    """Ends a worker process half of whose threads hang.

    Args:
        runtime: Whose handlers hang.
        worker: Dramatiq's worker, with the threads.
    """

    def __init__(self, runtime: Served, worker: Any) -> None:
        self._runtime = runtime
        self._worker = worker

    def __call__(self, hung: int) -> None:
        """Decide what to do, now that so many threads hang.  May not return."""
        threads = self._worker.worker_threads
        if 2 * hung < threads:
            logger.error("%d of %d threads hang in handlers; the others go on", hung, threads)
            return
        logger.critical(
            "%d of %d threads hang in handlers: this process ends; its supervisor "
            "should start it again",
            hung,
            threads,
        )
        self._runtime.follow_no_further()
        for consumer in self._worker.consumers.values():
            consumer.stop()  # it hears no further doorbell
        self._wait_for_the_others()
        logging.shutdown()
        os._exit(STATUS)

    def _wait_for_the_others(self) -> None:
        """Let handlers end that are under way, for as long as any of them may take."""
        watch = self._runtime.watch
        until = time.monotonic() + watch.limit + watch.grace
        while watch.running and time.monotonic() < until:
            time.sleep(0.05)
