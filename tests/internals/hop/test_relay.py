"""The relay on real Postgres: it rings for what is late, and changes nothing else."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import psycopg.errors
import pytest

import internals.hop.relay
from internals import Context, Work
from internals.hop.relay import Relay
from saga import Command, Event


class Sweep(Command, kind="yard.sweep"):
    n: int = 0


class Swept(Event, kind="yard.swept"):
    pass


class Bell:
    """Stands for Redis: remembers who was rung, and tells what is said to wait."""

    def __init__(self, **waiting: int) -> None:
        self.rung: list[frozenset[str]] = []
        self.answered: list[str] = []
        self.waits: Mapping[str, int] | None = waiting

    def ring(self, consumers: frozenset[str]) -> frozenset[str]:
        self.rung.append(consumers)
        return frozenset()

    def answer(self, consumer: str) -> None:
        self.answered.append(consumer)

    def waiting(self, consumers: Sequence[str]) -> Mapping[str, int] | None:
        if self.waits is None:
            return None
        return {consumer: self.waits.get(consumer, 0) for consumer in consumers}


def relay(store: Any, bell: Any, *consumers: str, grace: float = 1.0) -> Relay:
    return Relay(
        store.database,
        store.statements,
        consumers or ("yard",),
        waiting=bell.waiting,
        ring=bell.ring,
        answer=bell.answer,
        grace=grace,
    )


class TestLook:
    def test_a_lost_doorbell_is_rung_again(self, store: Any, command: Any) -> None:
        bell = Bell()
        message = command(Sweep())
        store.send(message)
        store.make_late()
        assert relay(store, bell).look() == 1
        assert bell.rung == [{"yard"}]
        assert store.delivery(message)["rings"] == 1

    def test_what_is_not_late_is_left_alone(self, store: Any, command: Any) -> None:
        bell = Bell()
        message = command(Sweep())
        store.send(message)
        store.rows("UPDATE inbox SET ring_at = now() + interval '1 hour' RETURNING 1 AS one")
        before = store.delivery(message)
        assert relay(store, bell).look() == 0
        assert bell.rung == []
        assert store.delivery(message) == before

    def test_what_was_just_rung_for_is_not_late_for_longer_each_time(
        self, store: Any, command: Any
    ) -> None:
        bell = Bell()
        message = command(Sweep())
        store.send(message)
        for wait in (3, 6, 12, 24, 48, 60, 60):
            store.make_late()
            before = store.clock()
            assert relay(store, bell, grace=3.0).look() == 1
            after = store.clock()
            ring_at = store.delivery(message)["ring_at"]
            assert before <= ring_at - timedelta(seconds=wait) <= after
            assert relay(store, bell).look() == 0
        assert len(bell.rung) == 7

    def test_a_thousand_rings_do_not_overflow(self, store: Any, command: Any) -> None:
        store.send(command(Sweep()))
        store.make_late()
        store.rows("UPDATE inbox SET rings = 100000 RETURNING 1 AS one")
        assert relay(store, Bell()).look() == 1

    def test_who_has_a_doorbell_waiting_is_not_rung(self, store: Any, command: Any) -> None:
        store.send(command(Sweep()))
        store.make_late()
        bell = Bell(yard=1)
        assert relay(store, bell).look() == 0
        assert bell.rung == []
        bell.waits = {}
        assert relay(store, bell).look() == 1

    def test_a_busy_consumer_does_not_hide_a_quiet_one(
        self, store: Any, command: Any, event: Any
    ) -> None:
        store.send(command(Sweep()), event(Swept(), recipient="shed"))
        store.make_late()
        bell = Bell(yard=3)
        assert relay(store, bell, "yard", "shed").look() == 1
        assert bell.rung == [{"shed"}]

    def test_consumers_of_other_processes_are_left_to_their_relays(
        self, store: Any, command: Any
    ) -> None:
        store.send(command(Sweep()))
        store.make_late()
        bell = Bell()
        assert relay(store, bell, "shed").look() == 0
        assert relay(store, bell).look() == 1

    @pytest.mark.parametrize("state", ["done", "revoked", "parked"])
    def test_what_is_settled_is_never_touched(self, store: Any, command: Any, state: str) -> None:
        message = command(Sweep())
        store.send(message)
        store.make_late()
        store.end(state)
        before = store.delivery(message)
        bell = Bell()
        assert relay(store, bell).look() == 0
        assert bell.rung == []
        assert store.delivery(message) == before

    def test_what_is_settled_takes_no_place_in_a_portion(
        self, store: Any, command: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(internals.hop.relay, "_PORTION", 2)
        store.send(*(command(Sweep(n=n)) for n in range(6)))
        store.make_late()
        store.end("parked")
        store.send(command(Sweep(n=7)))
        store.make_late()
        bell = Bell()
        assert relay(store, bell).look() == 1
        assert bell.rung == [{"yard"}]

    def test_what_a_live_hop_holds_is_not_late(self, store: Any, command: Any, note: Any) -> None:
        inside, leave = threading.Event(), threading.Event()

        def handle(message: Sweep, work: Work) -> None:
            inside.set()
            assert leave.wait(20)
            note(work, message.n)

        yard = Context("yard")
        yard.handles(Sweep)(handle)
        message = command(Sweep(n=1))
        store.send(message)
        store.make_late()
        bell = Bell()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(store.hop, yard)
            try:
                assert inside.wait(20)
                assert relay(store, bell).look() == 0
            finally:
                leave.set()
            running.result(20)
        assert bell.rung == []
        assert store.delivery(message)["rings"] == 0
        assert store.effects() == [1]

    def test_many_late_deliveries_are_one_doorbell_and_come_in_portions(
        self, store: Any, command: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(internals.hop.relay, "_PORTION", 30)
        store.send(*(command(Sweep(n=n)) for n in range(70)))
        store.make_late()
        bell = Bell()
        looks = [relay(store, bell).look() for _ in range(4)]
        assert looks == [30, 30, 10, 0]
        assert bell.rung == [{"yard"}] * 3

    def test_only_those_that_the_next_hop_would_take_are_counted_as_rung_for(
        self, store: Any, command: Any
    ) -> None:
        sent = [command(Sweep(n=n)) for n in range(100)]
        for message in sent:
            store.send(message)  # due one after the other
        store.make_late()
        relay(store, Bell()).look()
        assert [store.delivery(message)["rings"] for message in sent] == [1] * 64 + [0] * 36

    def test_a_long_backlog_of_one_consumer_does_not_hide_another(
        self, store: Any, command: Any, event: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(internals.hop.relay, "_PORTION", 30)
        store.send(*(command(Sweep(n=n)) for n in range(100)))
        store.make_late()
        store.send(event(Swept(), recipient="shed"))
        store.rows("UPDATE inbox SET ring_at = now() WHERE consumer = 'shed' RETURNING 1 AS one")
        bell = Bell()
        assert relay(store, bell, "yard", "shed").look() == 15 + 1
        assert bell.rung == [{"yard", "shed"}]

    def test_two_relays_do_not_move_the_same_delivery(self, store: Any, command: Any) -> None:
        store.send(*(command(Sweep(n=n)) for n in range(400)))
        store.make_late()
        bell = Bell()
        met = threading.Barrier(4)

        def look() -> int:
            one = relay(store, bell)
            met.wait(20)
            return one.look()

        with ThreadPoolExecutor(4) as pool:
            moved = [run.result(30) for run in [pool.submit(look) for _ in range(4)]]
        assert sum(moved) == 400
        assert {row["rings"] for row in store.deliveries("yard")} == {0, 1}

    def test_a_second_relay_skips_what_the_first_is_moving(self, store: Any, command: Any) -> None:
        store.send(command(Sweep()))
        store.make_late()
        bell = Bell()
        with store.transaction() as unit:
            parameters = {
                "consumers": ["yard"],
                "limit": 10,
                "window": 100,
                "head": 10,
                "grace": 1.0,
                "caps": [60.0],
            }
            assert len(unit.run(store.statements.ring, parameters)) == 1
            assert relay(store, bell).look() == 0

    def test_it_rings_after_its_commit(self, store: Any, command: Any) -> None:
        seen: list[int] = []

        class Looking(Bell):
            def ring(self, consumers: frozenset[str]) -> frozenset[str]:
                seen.extend(row["rings"] for row in store.deliveries("yard"))
                return super().ring(consumers)

        store.send(command(Sweep()))
        store.make_late()
        relay(store, Looking()).look()
        assert seen == [1]

    def test_without_redis_it_answers_what_is_due_itself(
        self, store: Any, command: Any, event: Any
    ) -> None:
        store.send(command(Sweep()), event(Swept(), recipient="shed"))
        bell = Bell()
        bell.waits = None
        assert relay(store, bell, "yard", "shed", "attic").look() == 0
        assert sorted(bell.answered) == ["shed", "yard"]  # nobody else will, so it need not be late
        store.make_late()
        assert relay(store, bell, "yard", "shed", "attic").look() == 2
        assert sorted(bell.answered) == ["shed", "shed", "yard", "yard"]
        assert bell.rung == []

    def test_one_consumer_whose_answer_fails_does_not_keep_the_others_waiting(
        self, store: Any, command: Any, event: Any
    ) -> None:
        class Failing(Bell):
            def answer(self, consumer: str) -> None:
                super().answer(consumer)
                raise ZeroDivisionError

        store.send(command(Sweep()), event(Swept(), recipient="shed"))
        store.make_late()
        bell = Failing()
        bell.waits = None
        with suppress(ZeroDivisionError):
            relay(store, bell, "yard", "shed").look()
        assert sorted(bell.answered) == ["shed", "yard"]

    def test_it_never_changes_state_attempts_or_due_time(self, store: Any, command: Any) -> None:
        message = command(Sweep())
        store.send(message)
        store.make_late()
        before = store.delivery(message)
        relay(store, Bell()).look()
        after = store.delivery(message)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"rings", "ring_at", "rung_at"}

    def test_it_notes_when_it_first_rang_since_it_was_due(
        self, store: Any, command: Any, outside: Any
    ) -> None:
        message = command(Sweep())
        store.send(message)
        noted = []
        for again in (False, False, True):
            if again:  # it was run meanwhile, and is tried again
                outside.execute("UPDATE inbox SET due_at = clock_timestamp()")
            store.make_late()
            relay(store, Bell()).look()
            noted.append(store.delivery(message)["rung_at"])
        first, second, third = noted
        assert first == second < third


class TestRun:
    def test_an_error_ends_one_look_and_not_the_relay(
        self,
        store: Any,
        command: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(internals.hop.relay, "_INTERVAL", 0.001)
        stop = threading.Event()
        errors = iter(
            [psycopg.errors.AdminShutdown(), psycopg.OperationalError(), ZeroDivisionError()]
        )

        class Failing(Bell):
            def waiting(self, consumers: Sequence[str]) -> Mapping[str, int] | None:
                for error in errors:
                    raise error
                return super().waiting(consumers)

            def ring(self, consumers: frozenset[str]) -> frozenset[str]:
                stop.set()
                return super().ring(consumers)

        store.send(command(Sweep()))
        store.make_late()
        bell = Failing()
        with caplog.at_level(logging.WARNING):
            relay(store, bell).run(stop)  # returns once it is stopped, after the ring
        assert bell.rung == [{"yard"}]
        told = [(record.message, bool(record.exc_info)) for record in caplog.records]
        assert told == [
            ("relay: AdminShutdown, looking again", False),
            ("relay: OperationalError, looking again", False),
            ("relay: ZeroDivisionError, looking again", True),  # a bug: with its traceback
        ]

    def test_it_stops_when_it_is_told(self, store: Any) -> None:
        stop = threading.Event()
        stop.set()
        relay(store, Bell()).run(stop)
