"""`saga backfill`: its rate, its trace, and what the command says."""

import re
from typing import Any

import pytest

from boundary.cli import progress
from boundary.operations import backfill as backfilling
from internals.store.backfill import Backfill, Portion
from tests.boundary.operations.backfill_steps import begin, finish
from tests.boundary.worlds.command_line import Ran
from tests.boundary.worlds.late_subscriber_app import Paper


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
        app = {"SAGA_APP": "late_subscriber_app:make"}
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
        document = call(*words, SAGA_APP="late_subscriber_app:make").document
        assert (document["context"], document["handed"]) == ("readers", 1)

    def test_it_refuses_in_words(self, paper: Paper, call: Any) -> None:
        ran = call(
            "backfill",
            "writers",
            "--since",
            "1d",
            "--reason",
            "x",
            SAGA_APP="late_subscriber_app:make",
        )
        assert ran.code != 0
        assert "no context 'writers'" in ran.err

    def test_it_says_how_far_it_is_every_ten_seconds(
        self, paper: Paper, call: Any, clock: Clock
    ) -> None:
        paper.publish(*range(1, 26))
        words = ("backfill", "readers", "--since", "1d", "--reason", "new", "--rate", "1")
        ran = call(*words, SAGA_APP="late_subscriber_app:make")
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
                *("backfill", "readers", "--since", "1d", "--reason", "new"),
                SAGA_APP="late_subscriber_app:make",
            )
        assert ran.code == 0
        assert ran.err == "waiting for transactions that began before to end\n"
        assert clock.slept == [0.1, 0.1]

    def test_stopped_by_the_keyboard_it_says_how_to_go_on(
        self, paper: Paper, call: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paper.publish(1, 2, 3)
        app = {"SAGA_APP": "late_subscriber_app:make"}

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
