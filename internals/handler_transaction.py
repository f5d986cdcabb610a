"""Handler transaction: what a handler writes with, and when it may."""

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from internals.database.unit_of_work import Row, UnitOfWork
from saga.envelope import Envelope
from saga.errors import NoTransaction


class HandlerTransaction:
    """The transaction of one run of one handler, from its begin until the handler ends.

    Args:
        message: What is handled.
        unit: The transaction, if it is open.
        begin: Opens it, for a handler that is to do that itself.
    """

    def __init__(
        self,
        message: Envelope,
        unit: UnitOfWork | None,
        begin: Callable[[], UnitOfWork] | None,
    ) -> None:
        self.message = message
        self._unit = unit
        self._begin = begin
        self._session: Session | None = None
        self._closed = False
        #: Held while the transaction is used, so that none of it is under way when the handler ends.
        self._using = RLock()
        #: Whether the handler may have written anything.
        self.touched = False

    @property
    def connection(self) -> Any:
        """The SQLAlchemy connection (in Django: Django's) that is in this transaction.

        Raises `NoTransaction` in a handler that acts outside the database, until it is done with
        that and says `begin()`.
        """
        return self._open.connection

    @property
    def _open(self) -> UnitOfWork:
        self._refuse_if_closed()
        if self._unit is None:
            raise NoTransaction(
                f"the handler of {self.message.kind} is external, so no transaction is open while "
                "it calls out; call work.begin() after the call, then write"
            )
        self.touched = True
        return self._unit

    def writes_with(self, connection: object) -> bool:
        """Whether this is the connection that is in this transaction."""
        return self._unit is not None and self._unit.connection is connection

    @property
    def session(self) -> Session:
        """An ORM session on that connection; flushed when the handler returns."""
        self._refuse_if_closed()
        if self._session is None:
            connection = self.connection
            if not isinstance(connection, Connection):
                raise TypeError("work.session needs SQLAlchemy; this transaction is not its own")
            self._session = Session(
                connection, join_transaction_mode="create_savepoint", close_resets_only=False
            )
        return self._session

    def execute(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """Run one SQL statement in this transaction, at the driver's own speed.

        Args:
            statement: With ``%(name)s`` placeholders; a literal ``%`` is written ``%%``.
            parameters: Their values.

        Returns the rows, if it has any.  Raises what the driver raises, and `NoTransaction` as
        `connection` does.
        """
        with self._using:
            return list(self._open.run(statement, parameters or {}))

    def begin(self) -> None:
        """Open the transaction, in a handler that acts outside the database: call out first.

        What is written from here on commits together with the delivery and what is sent.
        """
        with self._using:
            self._refuse_if_closed()
            if self._unit is None:
                assert self._begin is not None
                self._unit = self._begin()

    def finish(self) -> None:
        """Write out the session's pending changes; the framework calls it."""
        if self._session is not None:
            self._session.commit()  # releases the session's savepoint, no more

    def _close(self) -> None:
        """Let nobody use it any more: a thread of the handler's, or who has kept it.

        The transaction goes on with other deliveries, and the connection with other transactions.
        A statement that is under way is waited for: it began while the handler ran.
        """
        with self._using:
            self._closed = True
            self._unit = self._begin = None
            if self._session is not None:
                self._session.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise NoTransaction(
                f"the handler of {self.message.kind} has ended, and its work with it; do all of it "
                "before the handler returns, and wait there for threads that take part in it"
            )
