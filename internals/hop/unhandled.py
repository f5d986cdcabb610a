"""Unhandled: deliveries that this process cannot handle, and leaves pending for a worker that can.

Another release may know their kind, or read them.  Each sort is logged once, and looked at more
rarely the longer this process has met it; the reason is kept with each delivery.
"""

import logging
import time
from threading import Lock

logger = logging.getLogger(__name__)

#: Seconds until such a delivery is looked at again, by this process or another.
SHORTEST_DELAY = 5.0
LONGEST_DELAY = 30.0

#: How the reason begins of what is left since it cannot be read.
UNREADABLE = "cannot be read here: "


class Left:
    """What one consumer of this process leaves to others, and since when.

    Args:
        consumer: Its name, for the log.
    """

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._since: dict[tuple[str, str], float] = {}
        self._lock = Lock()

    def delay(self, kind: str, reason: str) -> float:
        """Return the seconds until such a delivery is to be looked at again; log the first one.

        Args:
            kind: The message's.
            reason: Why it is left; the same text for all that are left for the same.
        """
        now = time.monotonic()
        with self._lock:
            since = self._since.setdefault((kind, reason), now)
        if since is now:
            logger.warning("%s: %s is left for another worker: %s", self._consumer, kind, reason)
        return min(max(SHORTEST_DELAY, (now - since) / 4), LONGEST_DELAY)
