"""A context that subscribes late is handed past events, and then the live ones: no gap, no repeat."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from boundary.operations.backfill import Stage, backfill, preview_backfill
from boundary.operations.doctor import diagnose
from internals.database.unit_of_work import joined
from internals.store.backfill import Backfill
from internals.store.sql.ordering import HELD_UP_BY
from saga import ActRefused
from tests.boundary.operations.backfill_steps import DAY, begin, finish, handing
from tests.boundary.worlds.late_subscriber_app import Paper, Printed


def test_past_events_come_in_order_and_live_ones_after_them(paper: Paper) -> None:
    paper.publish(1, 2, 3)
    steps = begin(paper)
    handing(steps)
    paper.publish(4)  # live, and held
    assert finish(steps).stage is Stage.FINISHED
    paper.publish(5)
    paper.answer()
    assert paper.read() == [1, 2, 3, 4, 5]
    assert paper.counts() == (3, 2)


def test_only_the_first_of_each_key_is_due(paper: Paper) -> None:
    """What cannot be claimed yet is not late: the relay neither rings nor suspects it."""
    paper.publish(1, 2, 3)
    paper.publish(4, 5, topic="sport")
    finish(begin(paper))
    assert paper.due() == [1, 4]
    paper.answer()
    assert sorted(paper.read()) == [1, 2, 3, 4, 5]


def test_the_first_one_left_out_is_due_though_one_before_it_was_handled(paper: Paper) -> None:
    paper.runtime.subscribe()
    paper.publish(1)
    paper.answer()
    paper.outside.execute("DELETE FROM subscription")
    paper.publish(2, 3)
    finish(begin(paper))
    assert paper.due() == [2]


def test_live_events_wait_until_it_is_finished(paper: Paper) -> None:
    paper.publish(1)
    steps = begin(paper)
    handing(steps)
    paper.publish(2, 3)
    paper.answer()
    assert paper.read() == [1]
    finish(steps)
    paper.answer()
    assert paper.read() == [1, 2, 3]


def test_each_says_what_it_waits_for(paper: Paper) -> None:
    def waits() -> list[str | None]:
        rows = paper.outside.execute(
            "SELECT i.wait_reason FROM inbox i JOIN outbox o ON o.id = i.message_id ORDER BY o.seq"
        )
        return [reason for (reason,) in rows]

    paper.publish(1, 2)
    steps = begin(paper)
    handing(steps)
    paper.publish(3)
    assert waits() == [None, "ordering", "backfill"]
    finish(steps)
    assert waits() == [None, "ordering", "ordering"]


def test_what_was_handled_live_before_is_not_handed_over_again(paper: Paper) -> None:
    paper.publish(1, 2)
    paper.runtime.subscribe()
    paper.publish(3)
    paper.answer()
    assert paper.read() == [3]
    finish(begin(paper))
    paper.answer()
    assert paper.read() == [3, 1, 2]


def test_an_event_that_was_published_to_the_subscribers_of_before_is_not_missed(
    paper: Paper,
) -> None:
    """Its number may be lower than that of one which is in the log already."""
    with paper.runtime.engine.connect() as slow, slow.begin() as open_:
        paper.runtime.publish(slow, Printed(page=1))
        paper.publish(2)
        steps = begin(paper)
        assert [next(steps).stage for _ in range(3)] == [Stage.WAITING] * 3
        open_.commit()
    finish(steps)
    paper.answer()
    assert paper.read() == [1, 2]


def test_a_transaction_that_has_only_read_yet_is_waited_for_too(paper: Paper) -> None:
    paper.publish(1)
    connection = paper.runtime.engine.connect()
    with (
        connection.execution_options(isolation_level="REPEATABLE READ") as old,
        old.begin() as open_,
    ):
        old.exec_driver_sql("SELECT 1")  # it sees no subscription from here on
        steps = begin(paper)
        assert next(steps).stage is Stage.WAITING
        paper.runtime.publish(old, Printed(page=2))
        open_.commit()
    finish(steps)
    paper.answer()
    assert paper.read() == [1, 2]


def test_also_one_of_another_role_that_tells_nothing_of_itself(
    paper: Paper, schema: str, outside: Any
) -> None:
    role = f"{schema}_plain"
    outside.execute(f"CREATE ROLE {role}")
    with (
        paper.runtime.engine.connect() as old,
        paper.runtime.engine.connect() as plain,
        old.execution_options(isolation_level="REPEATABLE READ").begin(),
    ):
        old.exec_driver_sql("SELECT 1")
        [(barrier,)] = outside.execute("SELECT pg_current_xact_id()::text").fetchall()
        plain.exec_driver_sql(f"SET LOCAL ROLE {role}")
        assert not Backfill(schema, "readers").passed(joined(plain), barrier)
    outside.execute(f"DROP ROLE {role}")


def test_one_that_was_stopped_goes_on_where_it_was(paper: Paper) -> None:
    paper.publish(*range(1, 8))
    steps = begin(paper, rate=2)  # two events a portion
    assert handing(steps).state.handed == 2
    steps.close()  # type: ignore[attr-defined]
    paper.publish(8)
    with pytest.raises(ActRefused, match=r"is begun and not finished; leave --since out"):
        finish(begin(paper, since=DAY))
    last = finish(begin(paper, since=None))
    assert last.state.handed == 7
    paper.answer()
    assert paper.read() == list(range(1, 9))


def test_a_second_one_finds_what_the_first_left_out(paper: Paper) -> None:
    paper.publish(1)
    paper.outside.execute("UPDATE outbox SET sent_at = sent_at - interval '2 days'")
    paper.publish(2)
    assert finish(begin(paper)).state.handed == 1
    assert finish(begin(paper, since=3 * DAY)).state.handed == 1
    paper.answer()
    assert sorted(paper.read()) == [1, 2]


def test_no_gap_and_no_repeat_under_concurrent_publishers(paper: Paper) -> None:
    stop = threading.Event()
    published: list[int] = []

    def publish(first: int) -> None:
        page = first
        while not stop.is_set():
            with paper.runtime.engine.begin() as connection:
                paper.runtime.publish(connection, Printed(page=page, topic=str(first)))
                if random.random() < 0.2:
                    connection.exec_driver_sql("SELECT pg_sleep(0.01)")
            published.append(page)
            page += 1

    with ThreadPoolExecutor(4) as pool:
        publishers = [pool.submit(publish, n * 1_000_000) for n in range(3)]
        while len(published) < 60:
            pass
        finish(begin(paper))
        while len(published) < 120:
            pass
        stop.set()
        for publisher in publishers:
            publisher.result()
    relay = paper.runtime._worker_loop.relay()
    held = f"SELECT count(*) FROM inbox WHERE state = 'pending' AND wait_reason IN {HELD_UP_BY}"
    paper.answer()
    while paper.outside.execute(held).fetchone() != (0,):
        relay.look()
        paper.answer()
    assert sorted(paper.read()) == sorted(published)
    for first in range(3):
        topic = [page for page in paper.read() if page // 1_000_000 == first]
        assert topic == sorted(topic)


def test_a_preview_changes_nothing(paper: Paper) -> None:
    paper.publish(1, 2)
    assert preview_backfill(paper.runtime, "readers", DAY) == 2
    assert paper.counts() == (0, 0)
    [(subscriptions,)] = paper.outside.execute("SELECT count(*) FROM subscription").fetchall()
    assert subscriptions == 0


def test_a_context_that_is_not_here_is_refused(paper: Paper) -> None:
    with pytest.raises(
        ActRefused, match=r"no context 'writers' that reacts to events; it has read"
    ):
        finish(backfill(paper.runtime, "writers", DAY, rate=1, actor="ann", reason="why"))


def test_nothing_is_gone_on_with_that_was_not_begun(paper: Paper) -> None:
    with pytest.raises(ActRefused, match="no backfill of readers is begun; say --since when"):
        finish(begin(paper, since=None))


def test_the_doctor_tells_of_one_that_was_left(paper: Paper) -> None:
    paper.publish(1, 2, 3)
    handing(begin(paper, rate=1))
    found = {finding.check: finding for finding in diagnose(paper.runtime, application=True)}
    assert "live events wait: readers" in found["backfills"].found
    assert found["backfills"].remedy is not None
