"""What a client says to Postgres: enough of the protocol to see a COMMIT go by."""

import struct

#: Codes in the place of a protocol version: a request for TLS, for GSS, and to cancel.
_NO_STARTUP = (80877103, 80877104, 80877102)

_COMMITS = ("COMMIT", "END")


class Frontend:
    """The client's half of one connection.  Feed it all bytes, in any portions."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False
        #: Prepared statements, by name: whether they commit.  The same for portals.
        self._statements: dict[bytes, bool] = {}
        self._portals: dict[bytes, bool] = {}

    def feed(self, data: bytes) -> bool:
        """Return whether these bytes complete an order to commit."""
        self._rest += data
        commits = False
        while (message := self._next()) is not None:
            commits = self._read(*message) or commits
        return commits

    def _next(self) -> tuple[bytes, bytes] | None:
        """Take one whole message off the front: its type and its body."""
        head = 1 if self._started else 0  # what comes before the startup has no type
        if len(self._rest) < head + 4:
            return None
        (length,) = struct.unpack_from("!i", self._rest, head)
        if len(self._rest) < head + length:
            return None
        kind, body = self._rest[:head], self._rest[head + 4 : head + length]
        self._rest = self._rest[head + length :]
        if not self._started:
            self._started = struct.unpack_from("!i", body)[0] not in _NO_STARTUP
            return b"", body
        return kind, body

    def _read(self, kind: bytes, body: bytes) -> bool:
        if kind == b"Q":  # a simple query
            return _commits(body)
        if kind == b"P":  # parse: statement, text
            name, _, rest = body.partition(b"\0")
            self._statements[name] = _commits(rest)
        elif kind == b"B":  # bind: portal, statement
            portal, statement = body.split(b"\0", 2)[:2]
            self._portals[portal] = self._statements.get(statement, False)
        elif kind == b"E":  # execute: portal
            return self._portals.get(body.partition(b"\0")[0], False)
        return False


def _commits(text: bytes) -> bool:
    statement = text.partition(b"\0")[0].decode(errors="replace")
    return statement.strip().rstrip(";").strip().upper() in _COMMITS
