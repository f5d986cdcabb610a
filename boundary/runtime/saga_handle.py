"""Saga handle: the id of a saga that a host can ask, wait for and act on.

What it reads and does has a transaction of its own; what belongs to the host's own writes goes
through `Runtime`, which joins theirs.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import UUID

from boundary.orchestration.operator_actions import Acted, Definitions
from boundary.queries.reference import as_uuid, saga_of_key, saga_status
from boundary.queries.saga_detail import SagaDetail, show_known_saga
from boundary.queries.saga_list import SagaSummary, list_sagas
from boundary.runtime.host_writes import HostWrites
from internals.database.unit_of_work import UnitOfWork
from internals.store.trace import Trace, trace
from saga.backoff import Backoff
from saga.definition import Saga
from saga.errors import UnknownSaga
from saga.messages import Event
from saga.state import Status

#: Between two looks of `wait`.
_PAUSES = Backoff(0.02, cap=0.5)

#: A transaction, open within it.
_Unit = Callable[[], AbstractContextManager[UnitOfWork]]


class SagaHandle(UUID):
    """The id of a saga, which also answers for it.

    It is a `uuid.UUID` and equal to the plain one, so it goes wherever an id goes: into a column, a
    log line, a URL.  A copy or a pickle of it is a plain `UUID`.

    Each method reads or acts in a transaction of its own, and so knows nothing of a saga whose start
    is not committed: it raises `UnknownSaga` then.  (In Django it joins the `atomic()` block that
    the caller is in.)  Safe to share between threads.

    Example:
        ```python
        from boundary import SagaHandle
        from saga import Status

        def report(checkout: SagaHandle) -> str:
            status = checkout.wait(timeout=30)
            return checkout.details().waits_for or "" if status is Status.STUCK else status
        ```

    """

    __slots__ = ("_sagas",)

    _sagas: "Sagas"

    def __init__(self, id: UUID, sagas: "Sagas") -> None:
        super().__init__(int=id.int)
        object.__setattr__(self, "_sagas", sagas)  # a UUID cannot be changed

    def __reduce__(self) -> tuple[type[UUID], tuple[str]]:
        return UUID, (str(self),)

    def status(self) -> Status:
        """Return its status as it is now; raises `UnknownSaga`."""
        with self._sagas.reading() as unit:
            return saga_status(unit, self._sagas.schema, self)

    def wait(self, timeout: float | timedelta) -> Status:
        """Wait until the saga is over or stuck, and return its status.

        It asks the database, every half a second at most, so it is for tests, scripts and requests
        that can afford a thread.  Call it after the commit of the start.

        Args:
            timeout: How long to wait at most: seconds, or a timedelta.

        Raises:
            TimeoutError: The saga goes on.
            UnknownSaga: There is no such saga, or its start is not committed.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        until = time.monotonic() + seconds
        looks = 0
        while not ((status := self.status()).final or status is Status.STUCK):
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"saga {self} is still {status} after {seconds:g} s")
            looks += 1
            time.sleep(min(_PAUSES.longest(looks), left))
        return status

    def details(self) -> SagaDetail:
        """Return its data, its steps and what it waits for, as ``saga show`` does.

        Raises `UnknownSaga`.
        """
        sagas = self._sagas
        with sagas.reading() as unit:
            return show_known_saga(unit, sagas.schema, self, sagas.definitions)

    def trace(self) -> Trace:
        """Return all messages of the saga with their deliveries, as ``saga trace`` does.

        Raises `UnknownSaga`.
        """
        with self._sagas.reading() as unit:
            saga_status(unit, self._sagas.schema, self)
            return trace(unit, self._sagas.schema, self)

    def signal(self, event: Event, *, id: UUID | None = None) -> None:
        """Send it an outside message that one of its waits takes, and commit that.

        Args:
            event: The message; one that comes early is kept.
            id: The message's id.  The same id sent twice is one message.

        Raises:
            UnknownSaga: There is no such saga, or this application does not define it.
            ActRefused: No wait of the saga takes such a message.
            PayloadError: The message cannot be stored.
            StillLocked: Another transaction holds the saga, and does not end.
        """
        with self._sagas.acting() as unit:
            self._sagas.writes.signal_in(unit, self, event, id)

    def cancel(self, *, reason: str, actor: str) -> Acted:
        """Cancel it, and commit that: it turns back, stuck or not.

        Args:
            reason: Why; kept in the audit.
            actor: Who does it; kept in the audit.

        Returns what was done.

        Raises:
            UnknownSaga: There is no such saga, or this application does not define it.
            ActRefused: It cannot be cancelled: it is over, or past its pivot.
            PayloadError: The reason is blank or too long.
            StillLocked: Another transaction holds the saga, and does not end.
        """
        with self._sagas.acting() as unit:
            return self._sagas.writes.cancel_in(unit, self, reason=reason, actor=actor)


class Sagas:
    """The stored sagas of a runtime: `Runtime.sagas`.  Safe to share between threads.

    Args:
        definitions: By name and version.
        schema: The Postgres schema of the framework's tables.
        writes: Signals and cancels.
        reading: Opens a transaction that only reads.
        acting: Opens a transaction that is committed at its end.
    """

    def __init__(
        self,
        definitions: Definitions,
        schema: str,
        writes: HostWrites,
        *,
        reading: _Unit,
        acting: _Unit,
    ) -> None:
        self.definitions = definitions
        self.schema = schema
        self.writes = writes
        self.reading = reading
        self.acting = acting

    def get(self, saga: UUID | str | tuple[Saga[Any] | str, str]) -> SagaHandle:
        """Return the handle of a saga that was started before.

        Args:
            saga: Its id, perhaps as text; or a pair of its definition (or that one's name) and its
                business key.

        Raises:
            UnknownSaga: There is none, or its start is not committed.
        """
        with self.reading() as unit:
            if isinstance(saga, tuple):
                definition, key = saga
                name = definition if isinstance(definition, str) else definition.name
                return self.handle(saga_of_key(unit, self.schema, name, key))
            id = as_uuid(str(saga))
            if id is None:
                raise UnknownSaga(f"{saga!r} is no id of a saga; for a key give (saga, key)")
            saga_status(unit, self.schema, id)
            return self.handle(id)

    def list(
        self,
        saga: Saga[Any] | str | None = None,
        *,
        status: Status | None = None,
        since: timedelta | None = None,
        key_prefix: str | None = None,
        before: SagaSummary | None = None,
        limit: int = 50,
    ) -> Sequence[SagaSummary]:
        """Return the sagas that fit all that is given, the one started last first.

        Args:
            saga: The definition, or its name.
            status: The status that they are in.
            since: How long ago they started at most.
            key_prefix: What their business keys begin with.
            before: The last one of the page before; the list goes on after it.
            limit: How many at most.
        """
        with self.reading() as unit:
            return list_sagas(
                unit,
                self.schema,
                name=saga.name if isinstance(saga, Saga) else saga,
                status=status,
                since=since,
                key_prefix=key_prefix,
                before=before,
                limit=limit,
            )

    def handle(self, id: UUID) -> SagaHandle:
        """Return the handle of the saga with this id, without a look whether there is one."""
        return SagaHandle(id, self)
