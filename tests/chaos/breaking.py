"""Handlers with a bug: for some trips one of them raises, after its call, until somebody mends it.

It is mended by corrected data, which a replay brings, or where the handler is, which is a file here:
then what is parked is delivered again as it is.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from tests.chaos.plan import PLAN

#: Where a bug may be, and how many of a hundred trips have one there.
_PLACES: Sequence[tuple[str, int]] = (
    ("deposit", 10),
    ("refund", 8),
    ("insure", 6),
    ("uninsure", 6),
    ("voucher", 9),
)


class Broken(Exception):
    """The bug."""


def broken_at(trip_id: UUID) -> str | None:
    """Return where this trip meets a bug, always the same for a trip."""
    drawn = trip_id.int % 100
    for place, share in _PLACES:
        if drawn < share:
            return place
        drawn -= share
    return None


def meet(place: str, trip_id: UUID, *, mended: bool) -> None:
    """Raise `Broken` if this trip has its bug here, and nobody mended it."""
    if broken_at(trip_id) == place and not mended and not _mark(trip_id).exists():
        raise Broken(f"a bug in {place}")


def mend(trip_id: UUID) -> None:
    """Mend the bug for this trip."""
    _mark(trip_id).parent.mkdir(exist_ok=True)
    _mark(trip_id).touch()


def _mark(trip_id: UUID) -> Path:
    return Path(os.environ[PLAN]).parent / "mended" / str(trip_id)
