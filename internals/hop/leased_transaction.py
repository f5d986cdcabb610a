"""The transaction of a handler that runs under a lease, from when the handler begins it."""

from collections.abc import Callable
from contextlib import ExitStack

from internals.database.commit_points import OpenTransaction
from internals.database.connections import Database
from internals.database.errors import is_server_trouble, is_transient, sqlstate
from internals.database.unit_of_work import UnitOfWork

#: The SQLSTATE of a write in a transaction that only reads.
_READS_ONLY = "25006"


class LeasedTransaction:
    """A handler's transaction, which it may begin itself: before that it may not write.

    Args:
        opened: The transaction.
        database: Where it is.
        external: Whether the handler acts outside the database.
        alone: Whether its context changes settings of its session.
    """

    def __init__(
        self, opened: OpenTransaction, database: Database, *, external: bool, alone: bool
    ) -> None:
        self._opened = opened
        self._database = database
        self._external = external
        self._alone = alone
        self._entered = ExitStack()
        self._outside = ExitStack()
        self._lift: Callable[[], None] | None = None
        self._refused: Exception | None = None
        self._begun = False

    def __enter__(self) -> None:
        if self._external:
            self._lift = self._outside.enter_context(self._database.outside())

    def __exit__(self, *raised: object) -> None:
        try:
            self._entered.__exit__(*raised)  # type: ignore[arg-type]
        finally:
            self._outside.__exit__(*raised)  # type: ignore[arg-type]

    def begin(self) -> UnitOfWork:
        """Open the transaction."""
        if self._lift is not None:
            self._lift()
        try:
            unit = self._opened.begin()
        except Exception as error:  # the pool's trouble, or the server's, and not the handler's
            self._refused = error
            raise
        self._begun = True
        if self._alone:
            unit.expect_settings()
        # What it writes is all that there is in this transaction, which is rolled back whole.
        self._entered.enter_context(unit.handling(careful=False))
        return unit

    def passes(self, error: BaseException) -> bool:
        """Whether the database is in trouble that passes.

        That it only reads before the handler begins is no trouble: the handler may not write there.
        """
        refused = self._lift is not None and not self._begun and sqlstate(error) == _READS_ONLY
        return is_server_trouble(error) and not refused

    def no_connection(self, error: BaseException) -> bool:
        """Whether an error may be that there was no connection."""
        return self._refused is not None and is_transient(error)
