"""Stale forwards: deliveries that somebody was forwarding who did not live to say that they arrived."""

from collections.abc import Sequence

from internals.database.unit_of_work import UnitOfWork
from internals.remote.statements import RemoteStatements

#: Deliveries that one look moves at most.
_PORTION = 500


class StaleForwards:
    """What home's relay looks at beside late deliveries.

    Args:
        statements: For home's schema.
        consumers: Contexts whose deliveries are handled in another database.
    """

    def __init__(self, statements: RemoteStatements, consumers: Sequence[str]) -> None:
        self._statements = statements
        self._consumers = list(consumers)

    def __call__(self, unit: UnitOfWork, long: bool) -> set[str]:
        """Return those of the consumers who have to forward something once more.

        A long look also has done anew what was forwarded long ago and is not known to be done.
        """
        asked = {"consumers": self._consumers, "limit": _PORTION}
        if long:
            unit.run(self._statements.forward_anew, asked)
        return {name for (name,) in unit.run(self._statements.cut_off, asked)}
