"""Orphans: worker processes whose parent was killed alone end too.

They would go on with the old code beside the workers that take their place, and nobody could stop
them as a group.
"""

import multiprocessing
import os
import signal
import threading
import time

#: Seconds between two looks.
_LOOK = 0.5
#: Seconds for what is under way, once the parent is gone.
_GRACE = 30.0


def end_with_parent() -> None:
    """Watch the parent, if this is a worker process that another one started, from now on.

    When it is gone, the process stops as for SIGTERM, and is ended if that takes too long.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(os, "getppid"):
        return
    # A process of the fork server has that one for its parent, which ends with its own.
    expected = {parent.pid, os.getppid()} - {1}
    threading.Thread(target=_watch, args=(expected,), name="saga-parent", daemon=True).start()


def _watch(expected: set[int | None]) -> None:
    while os.getppid() in expected:
        time.sleep(_LOOK)
    # Nothing is logged: worker processes log through their parent, and a full pipe would block.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
