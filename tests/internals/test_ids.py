"""UUIDv7: made by the client, sorted by time."""

import time
from uuid import RFC_4122

from internals.ids import uuid7


def test_version_and_variant_are_those_of_rfc_9562() -> None:
    for _ in range(1000):
        id = uuid7()
        assert id.version == 7
        assert id.variant == RFC_4122


def test_it_starts_with_the_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert before <= made.int >> 80 <= after


def test_a_later_millisecond_sorts_after() -> None:
    first = uuid7()
    while time.time_ns() // 1_000_000 <= first.int >> 80:
        pass
    assert first < uuid7()


def test_no_two_are_equal() -> None:
    assert len({uuid7() for _ in range(20_000)}) == 20_000
