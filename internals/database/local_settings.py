"""Local settings: what a handler sets for its transaction, or for its session.

A setting, a temporary table, a cursor, a prepared statement, a lock or a channel that is the session's.

A batch of deliveries is one transaction, and a connection goes back to its pool: a tenant that one
handler names for row level security must not be the next one's, a role that it takes must not be
the one that its delivery is settled with.  Savepoints do not help, since a setting outlives the
release of one.  So statements are watched at the driver, under whatever the handler writes with.
One that sets something makes its delivery the last of its transaction; what the framework's own
statements depend on is put back before they run; and a session that keeps a setting is not used
again.

What a function in the database sets is not seen.  `Context(alone=True)` is for that.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.sql import Composable

#: Characters of a statement whose verdict is kept; longer ones hold their data.
_KEPT = 4000

#: Comments of one line, and of several: those that are within others first.
_COMMENTS = re.compile(r"--[^\n]*|/\*(?:(?!/\*|\*/).)*\*/", re.DOTALL)
#: A statement that sets something, where it begins: in a row of them, or in the body of a DO block.
_STATEMENT = re.compile(
    r"(?:set|reset|discard|(?:un)?listen|prepare|load)(?=\s)|declare(?=\s[^;]*\bcursor\b)"
)
_BEGINNINGS = (
    *(";", "begin", "then", "else", "loop", "$", "execute '", "execute('", "format('"),
    *("execute e'", "execute(e'", "format(e'"),
)
_CALL = re.compile(r"set_config\"?\s*\(")
_TEMPORARY = re.compile(
    r"\b(?:create|into)\s+(?:or\s+replace\s+)?(?:(?:local|global)\s+)?temp(?:orary)?\b|\bpg_temp\."
)
#: What is the session's, and is held or set by something else than a statement of its own.
_SESSIONS = re.compile(
    r"\bpg_(?:try_)?advisory_lock(?:_shared)?\"?\s*\(|\bupdate\s+(?:\w+\s*\.\s*)?pg_settings\b"
)
#: Words of which one is in every statement that is found.
_WORDS = ("set", "discard", "temp", "listen", "prepare", "load", "cursor", "advisory_lock")
#: Those that statements begin with, perhaps after a syllable.
_FIRST = {"set": "re", "discard": "", "listen": "un", "prepare": "", "load": "", "declare": ""}

#: Ways to set something for the transaction alone.
_LOCAL_STATEMENT = re.compile(
    r"set\s+(?:local|constraints|transaction)\s|declare\s(?![^;]*\bwith\s+hold\b)"
)
_LOCAL_CALL = re.compile(
    r"set_config\"?\s*\([^;]*?,\s*(true|'t(?:rue)?'|'on'|%(?:\(\w+\))?[stb])\s*(?:::\s*bool(?:ean)?\s*)?\)"
)
_LOCAL_TABLE = re.compile(rf"(?:{_TEMPORARY.pattern})" r"(?=[^;]*\bon\s+commit\s+drop\b)")

#: What the framework's own statements depend on.
_OURS = (
    *("role", "search_path", "row_security", "session_replication_role"),
    *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
    *("DateStyle", "IntervalStyle", "TimeZone", "bytea_output"),
)
_LOOK = f"SELECT {', '.join(f'current_setting({name!r})' for name in _OURS)}"

_WATCH = "_saga_settings"


class LocalSettings:
    """What handlers have set in one transaction.

    Args:
        driver: The psycopg connection that is in it.
    """

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver
        self._before: tuple[Any, ...] | None = None
        #: Whether anything was set, so that no other delivery may be handled in this transaction.
        self.altered = False
        #: Whether the session may keep something beyond the transaction.
        self.kept = False
        _watch(driver)

    def begin(self) -> None:
        """A handler runs from here on."""
        setattr(self._driver, _WATCH, self)

    def end(self) -> None:
        """It does no more."""
        setattr(self._driver, _WATCH, None)

    def expect(self) -> None:
        """Something may be set that nobody sees: note what there is."""
        if self._before is None:
            self._before = self._driver.execute(_LOOK).fetchone()

    def put_back(self) -> None:
        """Let the framework's own statements run as if nothing had been set."""
        before, self._before = self._before, None
        if before is None or self._driver.closed:
            return
        now = self._driver.execute(_LOOK).fetchone() or before
        # Some may be set by few roles only.
        changed = [p for *p, new in zip(_OURS, before, now, strict=True) if p[1] != new]
        for name, value in changed:
            self._driver.execute("SELECT set_config(%s, %s, true)", (name, value))

    def see(self, query: object, parameters: object) -> None:
        """A handler is about to run this statement."""
        text = _text(query, self._driver)
        found = _kept(text) if len(text) <= _KEPT else find(text)
        if found:
            self.altered = True
            self.kept = self.kept or not found.local(parameters)
            if self._driver.info.transaction_status != TransactionStatus.INERROR:
                self.expect()


class Watching:
    """What a unit of work knows of its handlers' settings."""

    #: None before there was a handler.
    _settings: LocalSettings | None = None

    @property
    def altered(self) -> bool:
        return self._settings is not None and self._settings.altered

    @property
    def spoilt(self) -> bool:
        """Whether the session may keep what a handler has set, so that nobody may use it again."""
        return self._settings is not None and self._settings.kept

    def _watched(self, driver: psycopg.Connection[Any]) -> LocalSettings:
        if self._settings is None:
            self._settings = LocalSettings(driver)
        return self._settings


@dataclass(frozen=True, slots=True)
class _Found:
    """Places of a statement's text that set something that outlives the statement."""

    text: str = ""
    statements: tuple[int, ...] = ()
    calls: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()
    #: Whether there is something that is the session's in any case.
    session: bool = False

    def __bool__(self) -> bool:
        return bool(self.statements or self.calls or self.tables or self.session)

    def local(self, parameters: object) -> bool:
        """Whether none of it outlives the transaction, as far as can be seen."""
        calls = [_LOCAL_CALL.match(self.text, at) for at in self.calls]
        return (
            not self.session
            and all(_LOCAL_STATEMENT.match(self.text, at) for at in self.statements)
            and all(_LOCAL_TABLE.match(self.text, at) for at in self.tables)
            and all(calls)
            and (not any(call and call[1].startswith("%") for call in calls) or _say(parameters))
        )


_NOTHING = _Found()


def _say(parameters: object) -> bool:
    """Whether parameters say that a setting is local: they hold a truth, and it is True."""
    if isinstance(parameters, Mapping):
        parameters = parameters.values()
    given = list(parameters) if isinstance(parameters, Iterable) else []
    return any(each is True for each in given) and not any(each is False for each in given)


def find(text: str) -> _Found:
    """Find what sets something; most statements do not, and are passed quickly."""
    lower = text.lower()
    if not any(word in lower for word in _WORDS):
        return _NOTHING
    found = _find(lower)
    if not found and ("--" in lower or "/*" in lower):
        found = _find(_without_comments(lower))
    return found


def _find(lower: str) -> _Found:
    statements, calls = [], []
    for word, syllable in _FIRST.items():
        at = lower.find(word)
        while at >= 0:
            start = max(at - len(syllable), 0)
            start = start if syllable and lower.startswith(syllable, start) else at
            if _CALL.match(lower, at):
                calls.append(at)
            elif _STATEMENT.match(lower, start) and _begins(lower, start):
                statements.append(start)
            at = lower.find(word, at + len(word))
    tables = [found.start() for found in _TEMPORARY.finditer(lower)] if "temp" in lower else []
    session = _SESSIONS.search(lower) is not None
    return _Found(lower, tuple(statements), tuple(calls), tuple(tables), session)


def _without_comments(lower: str) -> str:
    found = 1
    while found:
        lower, found = _COMMENTS.subn(" ", lower)
    return lower


def _begins(lower: str, at: int) -> bool:
    """Whether a statement begins here."""
    before = lower[max(at - 100, 0) : at].rstrip()
    return not before or before.endswith(_BEGINNINGS)


_kept: Callable[[str], _Found] = lru_cache(1024)(find)


def _text(query: object, driver: psycopg.Connection[Any]) -> str:
    if isinstance(query, str):
        return query
    if isinstance(query, bytes):
        return query.decode("utf-8", "replace")
    return query.as_string(driver) if isinstance(query, Composable) else str(query)


def _watch(driver: psycopg.Connection[Any]) -> None:
    """Have the connection's cursors tell what they run, once and for good."""
    if not issubclass(driver.cursor_factory, _Watched):
        setattr(driver, _WATCH, None)
        driver.cursor_factory = _watched(driver.cursor_factory)  # type: ignore[arg-type]


@cache
def _watched(factory: type[psycopg.Cursor[Any]]) -> type[psycopg.Cursor[Any]]:
    return type(f"Watched{factory.__name__}", (_Watched, factory), {})


class _Watched:
    """Tells of a cursor's statements while a handler runs."""

    connection: Any

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        self._tell(query, params)
        return super().execute(query, params, **options)  # type: ignore[misc]

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> Any:
        self._tell(query, None)
        return super().executemany(query, params_seq, **options)  # type: ignore[misc]

    def stream(self, query: Any, params: Any = None, **options: Any) -> Any:
        self._tell(query, params)
        return super().stream(query, params, **options)  # type: ignore[misc]

    def _tell(self, query: Any, params: Any) -> None:
        settings = getattr(self.connection, _WATCH)
        if settings is not None:
            settings.see(query, params)
