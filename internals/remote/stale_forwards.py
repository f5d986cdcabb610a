"""Stale forwards: deliveries that were forwarded long ago and are not known to be over."""

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

    def __call__(self, unit: UnitOfWork) -> set[str]:
        """Have these forwarded once more; returns those of the consumers who have something to do."""
        asked = {"consumers": self._consumers, "limit": _PORTION}
        return {name for (name,) in unit.run(self._statements.forward_anew, asked)}
