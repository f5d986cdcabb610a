"""The orchestrator on real Postgres: nothing is discarded, and one saga's trouble is its own."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field

from boundary.operations import show_saga
from boundary.operations.doctor.diagnosis import diagnose
from boundary.operations.doctor.finding import Verdict
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork, joined
from internals.hop import hop
from saga import (
    Command,
    Done,
    Event,
    PayloadError,
    Refused,
    Replayed,
    Retry,
    Saga,
    Started,
    Step,
    Wait,
)
from tests.boundary.worlds.parallel_steps import (
    CONSUMER,
    MOVING,
    Call,
    Load,
    Loaded,
    Move,
    Office,
    Unload,
    contexts,
    held,
    moving,
    reply,
)


@pytest.fixture
def office(runtime: Any, outside: Any) -> Callable[..., Office]:
    def make(*sagas: Saga[Any], contexts: list[Context] | None = None) -> Office:
        return Office(runtime(sagas or (MOVING,), contexts or []), outside)

    return make


@pytest.fixture
def busy(office: Any) -> Office:
    """An office whose contexts do what they are told."""
    made: Office = office(contexts=contexts())
    return made


class TestFlow:
    def test_a_saga_goes_through_its_steps(self, busy: Office) -> None:
        (id,) = busy.start(1)
        busy.settle()
        row = busy.saga(id)
        assert (row["status"], row["direction"]) == ("completed", "forward")
        assert row["data"] == {"n": 1, "note": "loaded 1"}
        assert row["finished_at"] is not None
        assert list(row["steps"]) == ["load", "call", "drive"]
        busy.check_history()

    def test_a_rejection_undoes_what_was_done(self, office: Any) -> None:
        busy = office(contexts=contexts(refuse=lambda n: n == 2))
        one, two = busy.start(1, 2)
        busy.settle()
        assert busy.saga(one)["status"] == "completed"
        row = busy.saga(two)
        assert row["status"] == "compensated"
        assert row["reason"] == "step drive: the road is closed"
        assert row["steps"]["load"]["phase"] == "compensated"
        assert len(busy.rows("SELECT 1 AS one FROM outbox WHERE kind = %s", Unload.kind)) == 1
        busy.check_history()

    def test_two_outcomes_in_one_batch_are_folded_one_after_the_other(self, busy: Office) -> None:
        (id,) = busy.start(1)
        busy.runtime.answer("van")
        busy.runtime.answer(CONSUMER)
        busy.runtime.answer("van")
        busy.runtime.answer("phone")
        assert busy.runtime.answer(CONSUMER) == 2
        assert busy.saga(id)["status"] == "completed"
        positions = [row["position"] for row in busy.deliveries()]
        assert sorted(positions) == [2, 3, 4]
        busy.check_history()

    def test_a_batch_costs_as_many_statements_as_one_message(
        self, busy: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        statements: list[str] = []
        run = SqlAlchemyUnitOfWork.run

        def counted(self: Any, statement: str, parameters: Any) -> Any:
            statements.append(statement)
            return run(self, statement, parameters)

        def cost(*numbers: int) -> int:
            busy.start(*numbers)
            busy.runtime.answer("van")
            with monkeypatch.context() as patched:
                patched.setattr(SqlAlchemyUnitOfWork, "run", counted)
                hop(busy.runtime.database, busy.runtime.consumers[CONSUMER])
            spent = len(statements)
            statements.clear()
            return spent

        assert cost(1) == cost(*range(2, 40))

    def test_a_repeated_outcome_is_recorded_and_has_no_effect(self, busy: Office) -> None:
        (id,) = busy.start(1)
        busy.settle()
        before = busy.saga(id)
        repeat = reply(id, Loaded(n=1, note="again"), root=busy.command_of(id, Load.kind))
        busy.send(repeat)
        busy.settle()
        row = busy.delivery(repeat)
        assert (row["state"], row["last_error"]) == ("done", "stale")
        after = busy.saga(id)
        assert {name for name in before if before[name] != after[name]} == {
            "consumed",
            "updated_at",
        }
        busy.check_history()


class TestUnknownVersion:
    def test_it_is_left_where_it_is_visibly_until_a_worker_knows_it(self, office: Any) -> None:
        new = office(moving(version=2), contexts=contexts())
        old = office(moving(version=1), contexts=contexts())
        (id,) = new.start(1, saga=moving(version=2))
        for _ in range(3):
            old.make_due()
            old.settle()
        assert old.saga(id)["status"] == "running"
        (row,) = old.deliveries()
        assert (row["state"], row["attempts"]) == ("pending", 0)
        assert row["last_error"] == "this worker does not know version 2 of moving"
        assert old.rows("SELECT 1 AS one FROM inbox WHERE due_at > now()")
        old.make_due()
        new.settle()
        assert new.saga(id)["status"] == "completed"

    def test_it_does_not_keep_known_ones_waiting(self, office: Any) -> None:
        new = office(moving(version=1), moving(version=2), contexts=contexts())
        old = office(moving(version=1), contexts=contexts())
        (unknown,) = new.start(1, saga=moving(version=2))
        (known,) = new.start(2, saga=moving(version=1))
        old.settle()
        assert old.saga(known)["status"] == "completed"
        assert old.saga(unknown)["status"] == "running"
        old.make_due()
        new.settle()
        assert new.saga(unknown)["status"] == "completed"

    def test_a_saga_that_no_worker_here_knows_has_an_inbox_of_its_own(self, office: Any) -> None:
        one = office(contexts=contexts())
        other = office(Saga(name="other", data=Move, steps=MOVING.steps), contexts=contexts())
        (id,) = one.start(1)
        other.settle()
        (row,) = one.deliveries()
        assert (row["state"], row["last_error"]) == ("pending", None)
        one.settle()
        assert one.saga(id)["status"] == "completed"


class Heavy(Event, kind="van.loaded"):
    """The outcome as another release has it, which cannot take every note."""

    n: int
    note: str = Field(default="", max_length=0)


class Older(BaseModel):
    """The data as a former release has it."""

    n: int = 0
    parts: tuple["OlderPart", ...] = ()


class OlderPart(BaseModel):
    number: int


class Newer(BaseModel):
    """The data as a newer release has it, of the same version."""

    n: int = 0
    by: str | None = None
    parts: tuple["NewerPart", ...] = ()


class NewerPart(BaseModel):
    number: int
    colour: str = ""


def loading(data: type[Any], until: type[Event] = Loaded, **options: Any) -> Saga[Any]:
    """Load, and then call."""
    return Saga(
        name="moving",
        data=data,
        steps=(
            Step("load", lambda move: Load(n=move.n), until=until, **options),
            Step("call", lambda move: Call(n=move.n)),
        ),
    )


class TestAnotherRelease:
    def test_an_outcome_that_cannot_be_read_waits_for_a_worker_that_can(self, office: Any) -> None:
        old = office(contexts=contexts())
        new = office(loading(Move, Heavy), contexts=contexts())
        (id,) = old.start(1)
        old.runtime.answer("van")
        for _ in range(3):
            new.runtime.answer(CONSUMER)
            (row,) = old.deliveries()
            assert (row["state"], row["attempts"]) == ("pending", 0)
            why = "cannot be read here: van.loaded: field note: String should have at most 0"
            assert row["last_error"].startswith(why)
            old.make_due()
        with new.runtime.engine.connect() as connection:
            detail = show_saga(SqlAlchemyUnitOfWork(connection), new.runtime.settings.db_schema, id)
        assert why in str(detail.waits_for)
        left = {f.check: f for f in diagnose(new.runtime, application=True)}["other releases"]
        assert left.verdict is Verdict.NOTE
        assert f"1 delivery is left for a worker that can, van.loaded at {CONSUMER}: {why}" in (
            left.found
        )
        old.rows("UPDATE outbox SET sent_at = now() - interval '1 hour' RETURNING id")
        left = {f.check: f for f in diagnose(new.runtime, application=True)}["other releases"]
        assert left.verdict is Verdict.WRONG
        old.settle()
        assert old.saga(id)["status"] == "completed"
        old.check_history()

    def test_so_it_does_where_sagas_consume_what_is_sent_to_them_at_once(self, office: Any) -> None:
        new = office(loading(Move, Heavy), contexts=contexts())
        (id,) = new.start(1, saga=loading(Move, Heavy))
        new.runtime.answer("van", follow=True)
        (row,) = new.deliveries()
        assert row["state"] == "pending"
        assert new.saga(id)["status"] == "running"

    def test_data_that_a_newer_release_added_is_never_lost(self, office: Any) -> None:
        def change(move: Older, outcome: Any) -> Older:
            return move.model_copy(update={"n": 7, "parts": (*move.parts, OlderPart(number=3))})

        definition = loading(Older, on_success=change)
        new, old = office(loading(Newer)), office(definition, contexts=contexts())
        parts = (NewerPart(number=1, colour="red"), NewerPart(number=2, colour="blue"))
        id = new.start_with(loading(Newer), Newer(n=1, by="Ada", parts=parts))
        old.settle()
        row = old.saga(id)
        assert row["status"] == "completed"
        assert row["data"] == {
            "n": 7,
            "by": "Ada",
            "parts": [
                {"number": 1, "colour": "red"},
                {"number": 2, "colour": "blue"},
                {"number": 3},
            ],
        }
        old.check_history()

    def test_what_would_be_lost_is_left_for_a_worker_that_knows_it(self, office: Any) -> None:
        def change(move: Older, outcome: Any) -> Older:
            # Whether the first one was dropped, or is the third one now, nobody can say.
            return move.model_copy(update={"parts": (*move.parts[1:], OlderPart(number=3))})

        new = office(loading(Newer), contexts=contexts())
        old = office(loading(Older, on_success=change), contexts=contexts())
        parts = (NewerPart(number=1, colour="red"), NewerPart(number=2, colour="blue"))
        id = new.start_with(loading(Newer), Newer(n=1, parts=parts))
        old.runtime.answer("van")
        old.runtime.answer(CONSUMER)
        (row,) = old.deliveries()
        assert row["state"] == "pending"
        old.make_due()
        new.settle()
        assert new.saga(id)["status"] == "completed"

    @pytest.mark.parametrize("at", ["before", "after"])
    def test_a_step_that_was_renamed_without_a_new_version(self, office: Any, at: str) -> None:
        renamed = Saga(
            name="moving",
            data=Move,
            steps=(
                Step("fill", lambda move: Load(n=move.n), until=Loaded),
                Step("call", lambda move: Call(n=move.n)),
                Step("drive", lambda move: Call(n=move.n)),
            ),
        )
        old = office(contexts=contexts())
        new = office(renamed, contexts=contexts())
        (id,) = old.start(1)
        old.runtime.answer("van")
        if at == "after":
            old.runtime.answer(CONSUMER)
            old.runtime.answer("van")
            old.runtime.answer("phone")
        for _ in range(3):
            new.runtime.answer(CONSUMER)
            old.make_due()
        pending = old.rows("SELECT * FROM inbox WHERE state = 'pending'")
        assert {row["last_error"] for row in pending if row["consumer"] == CONSUMER} == {
            "version 1 of moving here has no step 'load', which the saga has begun; give the changed "
            "definition a new version"
        }
        assert not old.rows("SELECT 1 AS one FROM inbox WHERE state = 'parked'")
        with (
            new.runtime.engine.begin() as connection,
            pytest.raises(PayloadError, match="has no step 'load'"),
        ):
            new.runtime.cancel(connection, id, reason="never mind", actor="ada")
        found = {f.check: f for f in diagnose(new.runtime, application=True)}["versions"]
        assert found.verdict is Verdict.WRONG
        assert "version 1 of moving has no step 'load', which 1 unfinished saga" in found.found
        old.settle()
        assert old.saga(id)["status"] == "completed"


class TestNotItsOwn:
    def test_what_nothing_it_sent_can_have_caused_is_parked(self, busy: Office) -> None:
        (id,) = busy.start(1)
        forged = reply(id, Done(), root=uuid4())
        busy.send(forged)
        busy.settle()
        row = busy.delivery(forged)
        assert (row["state"], row["position"]) == ("parked", None)
        assert row["last_error"] == f"unexpected: nothing that saga {id} sent leads to it"
        assert busy.saga(id)["status"] == "completed"
        busy.check_history()

    def test_an_outcome_of_the_wrong_kind_is_parked(self, busy: Office) -> None:
        (id,) = busy.start(1)
        wrong = reply(id, Done(), root=busy.command_of(id, Load.kind))
        busy.send(wrong)
        assert busy.runtime.answer(CONSUMER) == 1
        assert busy.delivery(wrong)["state"] == "parked"
        assert busy.saga(id)["status"] == "running"

    def test_what_belongs_to_no_saga_at_all_is_parked(self, busy: Office) -> None:
        (id,) = busy.start(1)
        nobody = uuid4()
        orphan = reply(nobody, Done(), root=uuid4())
        busy.send(orphan)
        busy.settle()
        row = busy.delivery(orphan)
        assert (row["state"], row["last_error"]) == ("parked", f"saga {nobody} does not exist")
        assert busy.saga(id)["status"] == "completed"

    def test_a_second_start_changes_nothing(self, busy: Office) -> None:
        (id,) = busy.start(1)
        again = reply(id, Started(), root=uuid4())
        busy.send(again)
        busy.settle()
        assert busy.delivery(again)["last_error"] == "stale"
        assert busy.saga(id)["data"]["n"] == 1
        assert busy.saga(id)["status"] == "completed"


def _raise(move: Move, outcome: Any) -> Move:
    raise ZeroDivisionError("on the third floor")


class TestFault:
    def test_a_function_that_raises_parks_its_message_and_the_saga_is_stuck(
        self, office: Any
    ) -> None:
        def keep_or_raise(move: Move, outcome: Any) -> Move:
            return _raise(move, outcome) if move.n == 1 else move

        busy = office(moving(on_success=keep_or_raise), contexts=contexts())
        bad, good = busy.start(1, 2)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        row = busy.saga(bad)
        assert row["status"] == "stuck"
        assert row["reason"] == (
            "van.loaded is parked at saga.moving: ZeroDivisionError: on the third floor"
        )
        (parked,) = busy.rows("SELECT * FROM inbox WHERE state = 'parked'")
        assert parked["last_error"] == "ZeroDivisionError: on the third floor"
        assert parked["attempts"] == 1
        assert not busy.rows("SELECT 1 AS one FROM inbox WHERE state = 'pending'")

    @pytest.mark.parametrize("note", ["a\x00b", "\ud800"], ids=["NUL", "surrogate"])
    def test_data_that_postgres_cannot_hold_is_that_saga_s_trouble_alone(
        self, office: Any, note: str
    ) -> None:
        def spoil(move: Move, outcome: Any) -> Move:
            return move.model_copy(update={"note": note}) if move.n == 1 else move

        busy = office(moving(on_success=spoil), contexts=contexts())
        bad, good = busy.start(1, 2)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        assert busy.saga(bad)["status"] == "stuck"
        assert "PayloadError" in busy.saga(bad)["reason"]

    def test_a_command_too_large_is_that_saga_s_trouble_alone(self, office: Any) -> None:
        class Letter(Command, kind="phone.letter"):
            text: str

        saga = Saga(
            name="moving",
            data=Move,
            steps=(
                Step("load", lambda move: Load(n=move.n), until=Loaded),
                Step(
                    "letter",
                    lambda move: Letter(text="x" * 300_000) if move.n == 1 else None,
                ),
            ),
        )
        busy = office(saga, contexts=contexts())
        bad, good = busy.start(1, 2, saga=saga)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        assert busy.saga(bad)["status"] == "stuck"
        assert "the limit is" in busy.saga(bad)["reason"]

    def test_data_that_grows_too_large_is_that_saga_s_trouble_alone(self, office: Any) -> None:
        def grow(move: Move, outcome: Any) -> Move:
            return move.model_copy(update={"note": "x" * 300_000}) if move.n == 1 else move

        busy = office(moving(on_success=grow), contexts=contexts())
        bad, good = busy.start(1, 2)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        assert busy.saga(bad)["status"] == "stuck"
        assert "the data after van.loaded has 300," in busy.saga(bad)["reason"]

        # Nor may whoever mends it: a host that goes on and commits has changed nothing.
        before = busy.saga(bad)
        act = Replayed(reason="shorter", data={"note": "y" * 300_000})
        with (
            busy.runtime.engine.begin() as connection,
            pytest.raises(PayloadError, match=r"has 300,.* bytes and the limit is 262,144"),
        ):
            busy.runtime.acts.act(joined(connection), bad, act, actor="ann")
        assert busy.saga(bad) == before

    def test_what_comes_early_is_kept_up_to_the_same_limit(self, office: Any) -> None:
        class Signed(Event, kind="people.signed"):
            text: str

        saga = Saga(
            name="moving",
            data=Move,
            steps=(
                Step("load", lambda move: Load(n=move.n), until=Loaded),
                Wait("sign", until=Signed),
            ),
        )
        busy = office(saga, contexts=contexts())
        (id,) = busy.start(1, saga=saga)
        with busy.runtime.engine.begin() as connection:
            for _ in range(3):
                busy.runtime.signal(connection, id, Signed(text="x" * 100_000))
        busy.runtime.answer(CONSUMER)
        states = sorted(row["state"] for row in busy.deliveries() if row["kind"] == Signed.kind)
        assert states == ["done", "done", "parked"]

    def test_stored_data_that_no_longer_fits_is_left_for_a_release_that_can_read_it(
        self, office: Any
    ) -> None:
        class Narrow(BaseModel):
            n: int
            van: str  # new, and without a default: nothing that is stored has it

        old = office(contexts=contexts())
        new = office(
            Saga(name="moving", data=Narrow, steps=MOVING.steps),  # and no new version
            contexts=contexts(),
        )
        (id,) = old.start(1)
        old.runtime.answer("van")
        before = len(old.rows("SELECT id FROM outbox"))
        for _ in range(3):
            hop(new.runtime.database, new.runtime.consumers[CONSUMER])
            new.make_due()
        assert len(old.rows("SELECT id FROM outbox")) == before  # it talks to nobody about it
        (row,) = old.deliveries()
        assert row["state"] == "pending"
        assert "does not fit" in row["last_error"]
        old.settle()
        assert old.saga(id)["status"] == "completed"

    def test_a_handler_that_fails_for_good_makes_the_saga_stuck(self, office: Any) -> None:
        van, _ = contexts()
        broken = Context("phone")

        @broken.handles(Call, retry=Retry(attempts=1))
        def call(command: Call, work: Work) -> None:
            raise ValueError("no line")

        busy = office(contexts=[van, broken])
        (id,) = busy.start(1)
        busy.settle()
        row = busy.saga(id)
        assert row["status"] == "stuck"
        assert row["reason"] == ("step call: phone.call is parked at phone: ValueError: no line")
        busy.check_history()


class TestHeld:
    def test_a_saga_that_another_transaction_holds_is_left_and_found_again(
        self, busy: Office
    ) -> None:
        one, two = busy.start(1, 2)
        busy.runtime.answer("van")
        orchestrator = busy.runtime.consumers[CONSUMER]
        with held(busy, one):
            handled = hop(busy.runtime.database, orchestrator)
            assert (handled.claimed, handled.settled, handled.more) == (2, 1, True)
            handled = hop(busy.runtime.database, orchestrator)
            assert (handled.claimed, handled.settled, handled.more) == (1, 0, True)
        assert list(busy.saga(two)["steps"]) == ["load", "call", "drive"]
        assert list(busy.saga(one)["steps"]) == ["load"]
        busy.settle()
        assert busy.saga(one)["status"] == busy.saga(two)["status"] == "completed"
        busy.check_history()

    def test_a_drain_waits_for_it(
        self, busy: Office, eventually: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (id,) = busy.start(1)
        busy.runtime.answer("van")
        orchestrator = busy.runtime.consumers[CONSUMER]
        looks: list[Any] = []
        handle = orchestrator.handle

        def look(unit: Any, limit: int, *folders: Any) -> Any:
            looks.append(handle(unit, limit, *folders))
            return looks[-1]

        monkeypatch.setattr(orchestrator, "handle", look)
        with ThreadPoolExecutor(1) as pool:
            with held(busy, id):
                running = pool.submit(busy.runtime.answer, CONSUMER)
                eventually(lambda: len(looks) > 1, what="a second look")
            running.result(20)
        busy.settle()
        assert busy.saga(id)["status"] == "completed"
        assert looks[0].settled == 0

    def test_many_workers_fold_each_outcome_once(self, office: Any) -> None:
        workers = [office(contexts=contexts(refuse=lambda n: n % 3 == 0)) for _ in range(4)]
        ids = workers[0].start(*range(60))
        with ThreadPoolExecutor(4) as pool:
            for run in [pool.submit(worker.settle) for worker in workers]:
                run.result(60)
        workers[0].make_due()
        workers[0].settle()
        statuses = [workers[0].saga(id)["status"] for id in ids]
        assert statuses == ["compensated" if n % 3 == 0 else "completed" for n in range(60)]
        workers[0].check_history()


def test_after_a_random_run_with_duplicates_the_history_is_the_state(office: Any) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - to run it again
    dice = random.Random(seed)
    refused = {n for n in range(40) if dice.random() < 0.3}
    busy: Office = office(contexts=contexts(refuse=lambda n: n in refused))
    ids = busy.start(*range(40))
    consumers = list(busy.runtime.consumers)
    for _ in range(60):
        hop(busy.runtime.database, busy.runtime.consumers[dice.choice(consumers)], 7)
        sent = busy.rows(
            "SELECT saga_id, root_id, causation_id, kind, payload FROM outbox "
            "WHERE recipient IS NOT DISTINCT FROM 'saga.moving' OR kind = 'van.loaded' "
            "ORDER BY seq"
        )
        for row in dice.sample(sent, min(3, len(sent))):
            kind = {m.kind: m for m in (Done, Loaded, Refused)}.get(row["kind"])
            if kind is None:
                continue
            message = kind(**row["payload"])
            busy.send(
                reply(row["saga_id"], message, root=row["root_id"], cause=row["causation_id"])
            )
    busy.settle()
    for n, id in enumerate(ids):
        assert busy.saga(id)["status"] == ("compensated" if n in refused else "completed")
    notes = busy.rows("SELECT last_error FROM inbox WHERE last_error = 'stale'")
    assert notes  # duplicates did arrive
    assert not busy.rows("SELECT 1 AS one FROM inbox WHERE state NOT IN ('done')")
    busy.check_history()
