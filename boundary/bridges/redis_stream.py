"""Redis Streams, of Redis and Valkey alike."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from time import monotonic
from typing import Any

import redis

from boundary.bridges.cloud_event import CloudEvent
from boundary.bridges.stream import PATIENCE, Sink, Source, StreamTrouble

_PREFIX = "ce_"
_DATA = "data"

#: Milliseconds that a poll waits for the first event.
_POLL_MS = 1000

#: Seconds between two looks at what others read and did not confirm, and for how many
#: milliseconds it must have been left alone to be taken over.
_TAKE_OVER_EVERY = 30.0
_LEFT_ALONE_MS = 60_000


class RedisStream:
    """A stream.

    Args:
        stream: Its key.
        url: ``redis://host:port/db``.
        group: Consumer group of those who read; the bridge's name, unless it is given.
        reader: Name of the reader in the group.  What it read and did not confirm it reads first
            when it starts again, so the order is kept as long as each name is used by one process.
        max_length: Entries that the stream keeps, roughly; all if it is not given.
    """

    def __init__(
        self,
        stream: str,
        url: str,
        *,
        group: str | None = None,
        reader: str = "reader",
        max_length: int | None = None,
    ) -> None:
        self.stream = stream
        self.url = url
        self.group = group
        self.reader = reader
        self.max_length = max_length

    def sink(self) -> Sink:
        """Return where events go."""
        return _RedisSink(self)

    def source(self, group: str) -> Source:
        """Return where events come from."""
        return _RedisSource(self, self.group or group)

    def connect(self) -> redis.Redis:
        """Return a client that waits for an answer as long as a bridge does, and not for ever."""
        return redis.Redis.from_url(
            self.url,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry_on_timeout=False,
        )


class _RedisSink:
    def __init__(self, stream: RedisStream) -> None:
        self._stream = stream

    @cached_property
    def _client(self) -> Any:
        return self._stream.connect()

    def send(self, events: Sequence[CloudEvent]) -> Mapping[int, Exception]:
        pipeline = self._client.pipeline(transaction=False)
        for event in events:
            pipeline.xadd(
                self._stream.stream,
                _fields(event),
                maxlen=self._stream.max_length,
                approximate=True,
            )
        try:
            answers = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            return {place: StreamTrouble(str(error)) for place in range(len(events))}
        return {
            place: StreamTrouble(str(answer))
            for place, answer in enumerate(answers)
            if isinstance(answer, Exception)
        }

    def close(self) -> None:
        if (client := self.__dict__.pop("_client", None)) is not None:
            client.close()


class _RedisSource:
    def __init__(self, stream: RedisStream, group: str) -> None:
        self._stream = stream
        self._group = group
        self._polled: list[bytes] = []
        #: Where its own unconfirmed entries go on; None once they are all read.
        self._own: bytes | None = b"0"
        self._next_look = 0.0

    @cached_property
    def _client(self) -> Any:
        client = self._stream.connect()
        try:
            client.xgroup_create(self._stream.stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        return client

    def poll(self, limit: int) -> Sequence[CloudEvent]:
        try:
            entries = self._read(limit)
        except redis.RedisError as error:
            raise StreamTrouble(str(error)) from error
        self._polled += [id for id, _ in entries]
        # A trimmed entry that was not confirmed has no fields any more.
        return [_event(self._stream.stream, id, fields) for id, fields in entries if fields]

    def confirm(self) -> None:
        try:
            if self._polled:
                self._client.xack(self._stream.stream, self._group, *self._polled)
        except redis.RedisError as error:
            raise StreamTrouble(str(error)) from error
        self._polled = []

    def close(self) -> None:
        if (client := self.__dict__.pop("_client", None)) is not None:
            client.close()
        self._polled, self._own = [], b"0"

    def _read(self, limit: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        client = self._client
        if self._own is not None:
            if entries := self._group_read(client, self._own, limit, None):
                self._own = entries[-1][0]
                return entries
            self._own = None
        if monotonic() >= self._next_look:
            self._next_look = monotonic() + _TAKE_OVER_EVERY
            _, entries, *_ = client.xautoclaim(
                self._stream.stream,
                self._group,
                self._stream.reader,
                min_idle_time=_LEFT_ALONE_MS,
                count=limit,
            )
            if entries:
                self._next_look = 0.0
                return list(entries)
        return self._group_read(client, b">", limit, _POLL_MS)

    def _group_read(
        self, client: Any, start: bytes, limit: int, block: int | None
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        found = client.xreadgroup(
            self._group,
            self._stream.reader,
            {self._stream.stream: start},
            count=limit,
            block=block,
        )
        return [entry for _, entries in found or () for entry in entries]


def _fields(event: CloudEvent) -> dict[str, str | bytes]:
    named: dict[str, str | bytes] = {f"{_PREFIX}{n}": v for n, v in event.attributes.items()}
    return {**named, _DATA: event.data}


def _event(stream: str, id: bytes, fields: Mapping[bytes, bytes]) -> CloudEvent:
    named = {name.decode(errors="replace"): value for name, value in fields.items()}
    attributes = {
        name.removeprefix(_PREFIX): value.decode(errors="replace")
        for name, value in named.items()
        if name.startswith(_PREFIX)
    }
    return CloudEvent(attributes, named.get(_DATA, b""), f"{stream}/{id.decode()}")
