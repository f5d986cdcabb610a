"""Bridges: selected events out to a stream, and events of others in from one.

Going out:
    OutgoingBridge      a context that puts the events it subscribes to on a stream
Coming in:
    IncomingBridge      a context that publishes what it reads from a stream
Streams:
    KafkaTopic          needs the extra ``kafka``
    RedisStream

What travels is a CloudEvent (`boundary.bridges.cloud_event`).
"""

from boundary.bridges.incoming import IncomingBridge
from boundary.bridges.kafka import KafkaTopic
from boundary.bridges.outgoing import OutgoingBridge
from boundary.bridges.redis_stream import RedisStream

__all__ = ["IncomingBridge", "KafkaTopic", "OutgoingBridge", "RedisStream"]
