"""How the commits of two databases are cut off, and what is ordered meanwhile."""

from collections.abc import Callable

import pytest
from dramatiq.middleware import Interrupt

from internals import Work
from internals.database.commit_points import Boundary, watch
from saga import Retry
from tests.boundary.worlds.own_database_app import Grind

GROUND, SPILT = ("ground", 1), ("spilt", 1)


class Gone(Interrupt):
    """The worker is gone: no `except Exception` sees it."""


def gone(*_: object) -> None:
    raise Gone


def fall(command: Grind, work: Work) -> None:
    raise RuntimeError("the wheel is broken")


class Once:
    """Calls something the n-th time that a boundary is passed at this moment."""

    def __init__(self, boundary: Boundary, moment: str, call: Callable[[], None], n: int = 1):
        self._at = (boundary, moment)
        self._call = call
        self._left = n
        watch(self)

    @property
    def struck(self) -> bool:
        return self._left <= 0

    def __call__(self, boundary: Boundary, moment: str) -> None:
        if (boundary, moment) == self._at:
            self._left -= 1
            if not self._left:
                self._call()


#: Every commit on the way, and how manieth of its boundary it is when one command goes there.
COMMITS = [
    pytest.param(Boundary.HOP, 1, id="claimed at home"),
    pytest.param(Boundary.FORWARD, 1, id="written there"),
    pytest.param(Boundary.FORWARDED, 1, id="confirmed at home"),
    pytest.param(Boundary.HOP, 2, id="handled there"),
    pytest.param(Boundary.RETURN, 1, id="settled at home"),
    pytest.param(Boundary.RETURNED, 1, id="acknowledged there"),
]


ONCE = Retry(attempts=1)
