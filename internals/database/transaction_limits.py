"""Transaction limits: how long a process that stands still may keep others waiting.

A process that is frozen (a suspended machine, a network that drops without a word) keeps its
transaction open, and with it every lock that it holds.  So each transaction of the framework's own
tells the server to end it when nothing is heard of it for a while, and waits for locks only a little
longer than that.  Both are set with the statement that begins the transaction, for that transaction
alone: there is no further round trip, nothing stays on a connection that is the host's, and a pooler
in transaction mode may stand between.
"""

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from internals.database.driver import begin, control, is_idle

#: Seconds for which a transaction of the framework's own may be idle, unless the settings say more.
FROZEN_AFTER = 60.0

#: Seconds that others wait longer for a lock, so that a frozen holder is ended before they give up.
_LATER = 1.0

_TIMEOUTS = ("idle_in_transaction_session_timeout", "lock_timeout")

#: What a connection has by itself, in milliseconds; 0 is no timeout.
_ITS_OWN = b"""
SELECT extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval) * 1000,
    extract(epoch FROM current_setting('lock_timeout')::interval) * 1000"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one runtime's transactions.  Safe to share between threads.

    Args:
        frozen_after: Seconds.
    """

    frozen_after: float = FROZEN_AFTER
    #: What is set at the begin, by connection: a shorter timeout of the role's or the host's stays.
    _settings: "WeakKeyDictionary[psycopg.Connection[Any], bytes]" = field(
        default_factory=WeakKeyDictionary, repr=False, compare=False
    )

    @property
    def wait(self) -> float:
        """Seconds that anybody waits for a lock."""
        return self.frozen_after + _LATER

    def begin(self, driver: psycopg.Connection[Any]) -> None:
        """Begin a transaction within these bounds.

        Does nothing on a connection that is in one already, or commits each statement.  Raises
        what the server says.
        """
        if driver.autocommit or not is_idle(driver):
            return
        settings = self._settings.get(driver)
        if settings is None:
            [row] = control(driver, begin(driver) + b";" + _ITS_OWN)
            settings = self._settings[driver] = self._shorter_than(row)
            control(driver, settings)
        else:
            control(driver, begin(driver) + b";" + settings)

    def _shorter_than(self, its_own: tuple[str | None, ...]) -> bytes:
        ours = (self.frozen_after, self.wait)
        settings = []
        for name, seconds, text in zip(_TIMEOUTS, ours, its_own, strict=True):
            milliseconds, other = max(1, round(seconds * 1000)), float(text or 0)
            if not 0 < other <= milliseconds:
                settings.append(f"SET LOCAL {name} = {milliseconds}")
        # An empty statement would be an empty answer.
        return ";".join(settings or ["SELECT 1"]).encode()
