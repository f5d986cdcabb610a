"""Kafka, through confluent-kafka (librdkafka): the extra ``kafka``."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from boundary.bridges.cloud_event import CloudEvent
from boundary.bridges.stream import PATIENCE, EventRefused, Sink, Source, StreamTrouble
from saga.errors import DefinitionError

if TYPE_CHECKING:
    import confluent_kafka

logger = logging.getLogger(__name__)

#: As the Kafka protocol binding of CloudEvents wants them in binary mode: one attribute has a header
#: of Kafka's own, and no other beside it.
_PREFIX = "ce_"
_OF_ITS_OWN = {"datacontenttype": "content-type"}
_ATTRIBUTE = {header: name for name, header in _OF_ITS_OWN.items()}

#: Seconds that a poll waits for the first event.
_POLL = 1.0

#: Errors that are the event's own, by librdkafka's names.
_REFUSING = ("MSG_SIZE_TOO_LARGE", "INVALID_MSG", "INVALID_MSG_SIZE", "INVALID_RECORD")


class KafkaTopic:
    """A topic.

    Args:
        topic: Its name.
        servers: ``host:port`` of some of the cluster's brokers, with commas between.
        group: Consumer group of those who read; the bridge's name, unless it is given.
        config: Further settings of librdkafka, such as ``security.protocol``.

    Raises `DefinitionError` if confluent-kafka is not installed.
    """

    def __init__(
        self,
        topic: str,
        servers: str,
        *,
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.topic = topic
        self.servers = servers
        self.group = group
        self.config = dict(config or {})
        _client()

    def sink(self) -> Sink:
        """Return where events go."""
        return _KafkaSink(self)

    def source(self, group: str) -> Source:
        """Return where events come from."""
        return _KafkaSource(self, self.group or group)

    def configured(self, **settings: Any) -> dict[str, Any]:
        """Return librdkafka's settings: these, and what the program says goes before them."""
        named = {name.replace("_", "."): value for name, value in settings.items()}
        return {"bootstrap.servers": self.servers, **named, **self.config}


class _KafkaSink:
    """An idempotent producer: within its session nothing is written twice, or out of order."""

    def __init__(self, topic: KafkaTopic) -> None:
        self._topic = topic

    @cached_property
    def _producer(self) -> "confluent_kafka.Producer":
        # What is not confirmed in time is given up by librdkafka itself, so that it cannot go out
        # behind the back of whoever sends it again.
        producer: confluent_kafka.Producer = _client().Producer(
            self._topic.configured(
                enable_idempotence=True,
                acks="all",
                linger_ms=0,
                message_timeout_ms=int(PATIENCE * 1000),
            ),
            logger=logger,
        )
        return producer

    def send(self, events: Sequence[CloudEvent]) -> Mapping[int, Exception]:
        open_: dict[int, Exception] = {
            place: StreamTrouble("Kafka has not confirmed it") for place in range(len(events))
        }

        def reported(place: int) -> Any:
            def report(error: Any, _: Any) -> None:
                if error is None:
                    del open_[place]
                else:
                    open_[place] = _failure(error)

            return report

        try:
            for place, event in enumerate(events):
                if (refused := self._produce(event, reported(place))) is not None:
                    open_[place] = refused
            # A little more than librdkafka itself takes, so that all is reported by then.
            self._producer.flush(PATIENCE + 1)
        except _client().KafkaException as error:
            trouble = _failure(error.args[0])
            return dict.fromkeys(open_, trouble)
        finally:
            self._forget_if_fatal(open_)
        return dict(open_)

    def close(self) -> None:
        self.__dict__.pop("_producer", None)

    def _produce(self, event: CloudEvent, report: Any) -> EventRefused | None:
        try:
            self._producer.produce(
                self._topic.topic,
                value=event.data,
                key=event.key,
                headers=_headers(event),
                on_delivery=report,
            )
        except _client().KafkaException as error:
            failure = _failure(error.args[0])
            if not isinstance(failure, EventRefused):
                raise
            return failure
        return None

    def _forget_if_fatal(self, open_: Mapping[int, Exception]) -> None:
        """After what librdkafka calls fatal a producer is of no use: the next send makes another."""
        if any(isinstance(error, _Fatal) for error in open_.values()):
            self.close()


class _Fatal(StreamTrouble):
    """The producer cannot be used any more."""


class _KafkaSource:
    """A member of a consumer group, which commits its offsets when it is told to."""

    def __init__(self, topic: KafkaTopic, group: str) -> None:
        self._topic = topic
        self._group = group

    @cached_property
    def _consumer(self) -> "confluent_kafka.Consumer":
        consumer: confluent_kafka.Consumer = _client().Consumer(
            self._topic.configured(
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            ),
            logger=logger,
        )
        consumer.subscribe([self._topic.topic])
        return consumer

    def poll(self, limit: int) -> Sequence[CloudEvent]:
        try:
            first = self._consumer.poll(_POLL)
            if first is None:
                return []
            found = [first, *self._consumer.consume(limit - 1, timeout=0)] if limit > 1 else [first]
        except _client().KafkaException as error:
            raise _failure(error.args[0]) from error
        for message in found:
            failed = message.error()
            if failed is not None:
                raise StreamTrouble(failed.str())
        return [_read(message) for message in found]

    def confirm(self) -> None:
        try:
            self._consumer.commit(asynchronous=False)
        except _client().KafkaException as error:
            if error.args[0].code() == _client().KafkaError._NO_OFFSET:
                return  # there was nothing since the last
            raise _failure(error.args[0]) from error

    def close(self) -> None:
        consumer = self.__dict__.pop("_consumer", None)
        if consumer is not None:
            consumer.close()


def _headers(event: CloudEvent) -> list[tuple[str, str | bytes | None]]:
    return [
        (_OF_ITS_OWN.get(name, f"{_PREFIX}{name}"), value)
        for name, value in event.attributes.items()
    ]


def _read(message: Any) -> CloudEvent:
    attributes = {
        _ATTRIBUTE.get(name, name.removeprefix(_PREFIX)): (value or b"").decode(errors="replace")
        for name, value in message.headers() or ()
        if name.startswith(_PREFIX) or name in _ATTRIBUTE
    }
    # What has no id is told apart by its place.
    place = f"{message.topic()}/{message.partition()}/{message.offset()}"
    return CloudEvent(attributes, message.value() or b"", place)


def _failure(error: Any) -> Exception:
    if error.name() in _REFUSING:
        return EventRefused(error.str())
    return (_Fatal if error.fatal() else StreamTrouble)(error.str())


def _client() -> Any:
    try:
        import confluent_kafka  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DefinitionError(
            "KafkaTopic needs confluent-kafka: install hybrid-saga[kafka]"
        ) from error
    return confluent_kafka
