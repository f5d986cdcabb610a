"""A context that subscribes late is handed past events, and then the live ones: no gap, no repeat."""

import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from counter import Ran
from news import Paper, Printed

from boundary.cli import progress
from boundary.operations import backfill as backfilling
from boundary.operations.backfill import BackfillStep, Stage, backfill, preview_backfill
from boundary.operations.doctor import diagnose
from internals.database.unit_of_work import joined
from internals.store.backfill import Backfill, Portion
from internals.store.sql.ordering import HELD_UP_BY
from saga import ActRefused

DAY = timedelta(days=1)


@pytest.fixture
def paper(runtime: Any, outside: Any) -> Paper:
    return Paper(runtime, outside)


def begin(paper: Paper, since: timedelta | None = DAY, rate: float = 1e6) -> Iterator[BackfillStep]:
    return backfill(paper.runtime, "readers", since, rate=rate, actor="ann", reason="new readers")


def handing(steps: Iterator[BackfillStep]) -> BackfillStep:
    """The first portion; transactions of other tests may be waited for before."""
    return next(step for step in steps if step.stage is Stage.HANDING)


def finish(steps: Iterator[BackfillStep]) -> BackfillStep:
    *_, last = steps
    return last


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
    relay = paper.runtime.relay()
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


class Clock:
    """Stands still, unless somebody sleeps or says that time went by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        monkeypatch.setattr(backfilling, "time", self)
        monkeypatch.setattr(progress, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, paper: Paper) -> Clock:
    """Nobody else's transaction is waited for either: that would be slept for too."""
    monkeypatch.setattr(Backfill, "passed", lambda *_: True)
    return Clock(monkeypatch)


class TestRate:
    def test_each_portion_takes_as_long_as_its_events_may(self, paper: Paper, clock: Clock) -> None:
        paper.publish(*range(1, 6))
        assert finish(begin(paper, rate=2)).state.handed == 5
        assert clock.slept == [1.0, 1.0]  # after two, and two more; one is left

    def test_a_rate_that_is_no_whole_number_is_kept(self, paper: Paper, clock: Clock) -> None:
        paper.publish(*range(1, 6))
        finish(begin(paper, rate=2.5))
        assert clock.slept == [0.8, 0.8]

    def test_what_the_portion_took_itself_is_not_slept_again(
        self, paper: Paper, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paper.publish(*range(1, 8))
        took = iter([0.25, 3.0, 0.0, 0.0])
        hand = Backfill.hand

        def slow(self: Backfill, *arguments: Any) -> Portion:
            clock.now += next(took)
            return hand(self, *arguments)

        monkeypatch.setattr(Backfill, "hand", slow)
        finish(begin(paper, rate=2))
        assert clock.slept == [0.75, 0.0, 1.0]

    def test_what_hands_nothing_over_is_not_paused_for(
        self, paper: Paper, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a log without such events a window is read, and the next one at once."""
        paper.publish(1, 2, 3)
        paper.outside.execute("UPDATE outbox SET category = 'reply'")
        monkeypatch.setattr("internals.store.backfill.WINDOW", 1)
        assert finish(begin(paper, rate=2)).state.handed == 0
        assert clock.slept == [0.0, 0.0]


class TestTrace:
    @pytest.mark.parametrize(
        ("columns", "said", "noted"),
        [
            (
                "state = 'done', outcome = 'handled', done_at = now()",
                r"readers ✓ \S+ m?s backfill",
                r"\S+ m?s, backfill",
            ),
            (
                "state = 'done', outcome = 'rejected', done_at = now(), "
                "last_error = 'rejected: too old'",
                r"readers ✗ rejected: too old \S+ m?s backfill",
                r"\S+ m?s, backfill",
            ),
            ("due_at = now()", r"readers … pending for \S+ m?s backfill", "pending, backfill"),
            (
                "due_at = NULL, wait_reason = 'ordering'",
                r"readers … pending for \S+ m?s backfill, behind another one of its key",
                "pending, backfill",
            ),
            (
                "state = 'parked', outcome = 'failed', done_at = now(), attempts = 2, "
                "last_error = 'no ink'",
                "readers ✗ parked backfill after 2 attempts: no ink",
                "parked, backfill",
            ),
            (
                "state = 'revoked', outcome = 'not_needed', done_at = now()",
                "readers ∅ revoked backfill",
                "revoked, backfill",
            ),
        ],
    )
    def test_a_past_event_is_marked_whatever_became_of_it(
        self, paper: Paper, call: Any, columns: str, said: str, noted: str
    ) -> None:
        paper.publish(1)
        finish(begin(paper))
        paper.outside.execute(f"UPDATE inbox SET {columns}")
        [(id,)] = paper.outside.execute("SELECT id::text FROM outbox").fetchall()
        assert re.search(f"paper.printed → {said}$", call("trace", id).out, re.MULTILINE)
        assert re.search(rf"paper.printed \({noted}\)$", call("trace", id, "--mermaid").out, re.M)
        [message] = call("trace", id, "--json").document["messages"]
        assert [one["backfill"] for one in message["deliveries"]] == [True]

    def test_live_ones_are_not_marked(self, paper: Paper, call: Any) -> None:
        paper.publish(1)
        finish(begin(paper))
        paper.publish(2)
        paper.answer()
        ids = paper.outside.execute("SELECT id::text FROM outbox ORDER BY seq").fetchall()
        for (id,), past in zip(ids, (True, False), strict=True):
            for form in ([], ["--mermaid"], ["--follow"]):
                assert ("backfill" in call("trace", id, *form).out) == past
            assert call("trace", id, "--follow", "--json").document["backfill"] == past


class TestCommand:
    def test_it_hands_over_and_says_how_many(self, paper: Paper, call: Any) -> None:
        paper.publish(1, 2, 3)
        app = {"SAGA_APP": "news:make"}
        words = ("backfill", "readers", "--since", "1d", "--reason", "new")
        assert call(*words, "--dry-run", **app) == Ran(
            0, "readers would be handed 3 past events\n", ""
        )
        ran = call(*words, **app)
        assert ran.code == 0
        assert ran.out.startswith("readers was handed 3 past events since ")
        paper.answer()
        assert paper.read() == [1, 2, 3]
        [(act, reason)] = paper.outside.execute("SELECT act, reason FROM audit").fetchall()
        assert (act, reason) == ("backfill", "new")

    def test_json(self, paper: Paper, call: Any) -> None:
        paper.publish(1)
        words = ("backfill", "readers", "--since", "1d", "--reason", "new", "--json")
        document = call(*words, SAGA_APP="news:make").document
        assert (document["context"], document["handed"]) == ("readers", 1)

    def test_it_refuses_in_words(self, paper: Paper, call: Any) -> None:
        ran = call("backfill", "writers", "--since", "1d", "--reason", "x", SAGA_APP="news:make")
        assert ran.code != 0
        assert "no context 'writers'" in ran.err

    def test_it_says_how_far_it_is_every_ten_seconds(
        self, paper: Paper, call: Any, clock: Clock
    ) -> None:
        paper.publish(*range(1, 26))
        words = ("backfill", "readers", "--since", "1d", "--reason", "new", "--rate", "1")
        ran = call(*words, SAGA_APP="news:make")
        assert ran.out.startswith("readers was handed 25 past events since ")
        # Of what the first portion has left of the log.
        assert ran.err.splitlines() == ["read 10 of 24", "read 20 of 24"]
        assert clock.slept == [1.0] * 24

    def test_it_says_that_it_waits_for_others(self, paper: Paper, call: Any, clock: Clock) -> None:
        paper.publish(1)
        with pytest.MonkeyPatch.context() as patch:
            passed = iter([False, False, True, True])
            patch.setattr(Backfill, "passed", lambda *_: next(passed))
            ran = call(
                *("backfill", "readers", "--since", "1d", "--reason", "new"), SAGA_APP="news:make"
            )
        assert ran.code == 0
        assert ran.err == "waiting for transactions that began before to end\n"
        assert clock.slept == [0.1, 0.1]

    def test_stopped_by_the_keyboard_it_says_how_to_go_on(
        self, paper: Paper, call: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paper.publish(1, 2, 3)
        app = {"SAGA_APP": "news:make"}

        def stop(_: float) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(clock, "sleep", stop)
            words = ("backfill", "readers", "--since", "1d", "--rate", "2", "--reason", "new")
            ran = call(*words, **app)
        assert ran.code == 130
        assert ran.complaint == (
            "stopped; live events wait for readers until `saga backfill readers --reason WHY` "
            "has gone on to the end"
        )
        assert paper.counts() == (2, 0)
        again = call("backfill", "readers", "--reason", "new", **app)
        assert again.out.startswith("readers was handed 3 past events since ")
        paper.answer()
        assert paper.read() == [1, 2, 3]
