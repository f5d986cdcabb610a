"""Pace: how many deliveries a consumer claims at once, by how fast its handlers are."""

#: Deliveries that a batch may have however fast the handlers are.
_FASTEST = 1024
#: Deliveries of the first batch of a process, which does not know yet how fast they are.
FIRST_BATCH = 4


class Pace:
    """The size of one consumer's next batch.

    Args:
        first: That of the first.
    """

    __slots__ = ("size",)

    def __init__(self, first: int = FIRST_BATCH) -> None:
        self.size = first

    def one_by_one(self) -> None:
        """Claim one: a handler ran for too long."""
        self.size = 1

    def slow_down(self, handled: int) -> None:
        """Claim no more than was handled: what a slow batch leaves was locked for nothing."""
        self.size = handled

    def speed_up(self) -> None:
        """Claim twice as many: all was handled in time."""
        self.size = min(2 * self.size, _FASTEST)
