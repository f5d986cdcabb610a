"""Causal steps: what a step says of everything that its command sets off, at any depth.

Every message below a step's command inherits what the step awaits.  So its transaction knows,
without knowing the saga, whether it is counted: then the deliveries below the command are counted
as they open and close, in the transactions that open and close them, and can be undone.
"""

from enum import Enum
from typing import Final, Literal

from saga.messages import Settled

#: As a step's `until`: it is over when every delivery that descends from its command is done,
#: at any subscriber and any depth.
SETTLED: Final = Settled


class Causal(Enum):
    """The one way of undoing that is no command."""

    CAUSAL = "causal"


#: As a step's `compensation`: what its command set off is undone, the last reaction first, by the
#: `undo` of each handler that ran.
CAUSAL: Final[Literal[Causal.CAUSAL]] = Causal.CAUSAL

#: Among the kinds that a command awaits: it awaits no such message, but what is below is counted.
COUNTED = "saga.counted"


def is_undoing(awaits: tuple[str, ...]) -> bool:
    """Whether a message that awaits these kinds is an order to undo, or was set off by one."""
    return awaits == (COUNTED,)


def is_counted(awaits: tuple[str, ...]) -> bool:
    """Whether the deliveries of a message that awaits these kinds are counted."""
    return Settled.kind in awaits or COUNTED in awaits
