"""Freezing: a process stops itself, with whatever it holds, until the run lets it go on.

What is frozen is written down in a slot of the run's folder before.  There are only so many slots,
and the run grants each freeze, so that somebody is always left to work; first to those of a kind that
did not strike yet.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.tally import Tally

#: Processes that may be frozen at once.
SLOTS = 14


@dataclass(frozen=True, slots=True)
class Frozen:
    """A group of processes that is frozen, or was."""

    group: int
    fault: str
    #: By the clock that all processes of this machine share, and that nobody sets.
    since: float


def freeze(
    folder: Path, fault: str, tally: Tally, granted: Callable[[], None] = lambda: None
) -> bool:
    """Stop all of this process's group if that is granted; returns when it is let go on.

    `granted` is called before it stops.
    """
    if not (_is_first_act(fault, tally) or _granted(folder, fault)):
        return False
    if not take_slot(folder, Frozen(os.getpgid(0), fault, time.monotonic())):
        return False
    granted()
    tally.struck(fault)
    os.killpg(0, signal.SIGSTOP)
    return True


def grant(folder: Path, wanted: Collection[str] = ()) -> None:
    """Let one more process freeze, whoever comes first: by one of these faults, or by any."""
    written = folder / "may-freeze.new"
    written.write_text("\n".join(wanted))
    written.rename(_grant(folder))


def _is_first_act(fault: str, tally: Tally) -> bool:
    """Whether an operator is struck for the first time: acts are few, and the workers go on."""
    return fault.endswith("_act") and fault not in tally.read()


def _granted(folder: Path, fault: str) -> bool:
    try:
        wanted = _grant(folder).read_text().split()
        if wanted and fault not in wanted:
            return False
        _grant(folder).unlink()  # by one process only
    except FileNotFoundError:
        return False
    return True


def _grant(folder: Path) -> Path:
    return folder / "may-freeze"


def read_frozen(folder: Path) -> Iterator[tuple[Path, Frozen]]:
    """Iterate over the slots that are taken."""
    for slot in sorted((folder / "frozen").glob("*.json")):
        yield slot, Frozen(**json.loads(slot.read_text()))


def take_slot(folder: Path, frozen: Frozen) -> bool:
    """Write down who is frozen, if there is a slot left."""
    slots = folder / "frozen"
    slots.mkdir(exist_ok=True)
    written = slots / f"{frozen.group}-{time.monotonic_ns()}.new"
    written.write_text(json.dumps(asdict(frozen)))
    try:
        return any(_link(written, slots / f"{number}.json") for number in range(SLOTS))
    finally:
        written.unlink()


def _link(written: Path, slot: Path) -> bool:
    """Take a slot, with all that is written of it at once, if nobody has it."""
    try:
        os.link(written, slot)
    except FileExistsError:
        return False
    return True
