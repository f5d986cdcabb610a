"""Interruption: how a run of a handler is ended from another thread.

An exception is raised in its thread, the statement that it waits for is cancelled, and in the end its
database session is ended.
"""

import ctypes
import gc
import logging
import os
import socket
import sys
import threading
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from internals.database.ended_sessions import note_ended
from internals.database.lock_waits import waits_for_lock
from internals.hop.handler_run import Run

logger = logging.getLogger(__name__)

#: Seconds that the cancelling of a statement may take.
_CANCELLING = 5.0

#: Held by who has switched garbage collection off, so that no other switches it on again meanwhile.
_looking = threading.Lock()


class OutOfTime(BaseException):
    """Raised in a handler's thread: it has reached its limit.

    Not an `Exception`, so that a handler's own ``except Exception`` does not keep it alive.
    """


def raise_in_thread(thread: int, error: type[BaseException] | None) -> None:
    """Have a thread raise this as soon as it runs code in Python; None takes it back.

    Nothing happens where the interpreter cannot do that: the session is ended in the end.
    """
    set_error = getattr(getattr(ctypes, "pythonapi", None), "PyThreadState_SetAsyncExc", None)
    if set_error is not None:
        set_error(ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error))


def stack_of(thread: int) -> str:
    """Return where a thread is: lines of source, and no values."""
    frame = _frame_of(thread)
    return "".join(traceback.format_stack(frame)[-12:]) if frame is not None else "(unknown)"


def _frame_of(thread: int) -> FrameType | None:
    """Return the frame that a thread is in.

    Before Python 3.12 the interpreter holds a lock meanwhile that a garbage collection may need, and
    one that begins just then waits for ever, with the whole process (CPython's issue 106883).
    """
    with _looking:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames().get(thread)
        finally:
            if collects:
                gc.enable()


def _session(run: Run) -> psycopg.Connection[Any] | None:
    with suppress(Exception):  # it is being given back, or was lost
        session = run.session()
        if isinstance(session, psycopg.Connection) and not session.closed:
            return session
    return None


def ask_about_locks(run: Run) -> None:
    """Find out whether a run waits for a lock, which is not its handler's fault."""
    blocked = None
    try:
        session = _session(run)
        if session is not None and session.pgconn.transaction_status == TransactionStatus.ACTIVE:
            blocked = waits_for_lock(session)
    except (OSError, psycopg.Error) as error:
        logger.info("%s: cannot find out what it waits for: %s", run.name, type(error).__name__)
    finally:
        run.sampling.answer(blocked)


def cancel_statement(run: Run) -> None:
    """Cancel the statement that a run waits for, if it does."""
    session = _session(run)
    if session is None or run.over:
        return
    if session.pgconn.transaction_status == TransactionStatus.ACTIVE:
        try:
            session.cancel_safe(timeout=_CANCELLING)
        except (OSError, psycopg.Error) as error:
            logger.info("%s: its statement cannot be cancelled: %s", run.name, type(error).__name__)


def end_session(run: Run) -> None:
    """End a session under a thread that uses it: the server sees a client that has gone."""
    session = _session(run)
    if session is None:
        return
    note_ended(session)
    try:
        with socket.socket(fileno=os.dup(session.pgconn.socket)) as connected:
            connected.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error) as error:
        logger.warning("%s: its session cannot be ended: %s", run.name, type(error).__name__)


def close_session(run: Run) -> None:
    """Close a session in the thread that uses it."""
    session = _session(run)
    if session is not None:
        note_ended(session)
        session.close()
