"""What follows from one saga's message cannot be written: it stands, and the others go on."""

from datetime import timedelta
from typing import Any

import pytest

from internals import Context, Work
from saga import Saga, Step
from tests.boundary.worlds.parallel_steps import (
    MOVING,
    Drive,
    Load,
    Loaded,
    Move,
    Office,
    contexts,
    keep,
)

_BAD = 4

#: What Postgres is made to refuse of the fourth of nine sagas.
REFUSALS = {
    "a command": "ALTER TABLE outbox ADD CHECK (kind <> 'van.drive' OR payload ->> 'n' <> '4')",
    "its state": "ALTER TABLE saga ADD CHECK (data ->> 'note' <> 'loaded 4')",
    "a delivery": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT payload ->> 'n' = '4' FROM outbox WHERE id = new.message_id) THEN
                RAISE 'no delivery for 4';
            END IF;
            RETURN new;
        END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON inbox FOR EACH ROW
            WHEN (new.consumer = 'phone') EXECUTE FUNCTION refuse()""",
}


def everyone(office: Office, *, follow: bool) -> None:
    """Let everyone work until nobody has anything due, though a doorbell may fail."""
    names = list(office.runtime._wiring.consumers)
    while sum(office.runtime.answer(name, follow=follow) for name in names):
        pass


@pytest.mark.parametrize("follow", [False, True], ids=["by_doorbells", "colocated"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_its_delivery_is_parked_with_the_database_s_words_and_the_others_go_on(
    runtime: Any, outside: Any, refusal: str, follow: bool
) -> None:
    office = Office(runtime([MOVING], contexts()), outside)
    ids = office.start(*range(1, 10))
    outside.execute(REFUSALS[refusal])
    everyone(office, follow=follow)
    statuses = [office.saga(id)["status"] for id in ids]
    assert statuses == ["stuck" if n == _BAD else "completed" for n in range(1, 10)]
    bad = office.saga(ids[_BAD - 1])
    (parked,) = office.rows("SELECT * FROM inbox WHERE state = 'parked'")
    assert (parked["saga_id"], parked["consumer"]) == (bad["id"], "saga.moving")
    words = "no delivery for 4" if refusal == "a delivery" else "violates check constraint"
    assert words in parked["last_error"]
    assert words in bad["reason"]
    # It is not the fault of the context whose event brought it about.
    assert {(row["state"], row["attempts"]) for row in office.deliveries("van")} == {("done", 0)}
    office.check_history()


def test_several_messages_of_one_saga_go_on_from_each_other(runtime: Any, outside: Any) -> None:
    office = Office(runtime([MOVING], contexts()), outside)
    good, bad = office.start(1, _BAD)
    outside.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF new.data ->> 'n' = '4' AND new.status = 'completed' THEN RAISE 'never'; END IF; "
        "RETURN new; END $$; "
        "CREATE TRIGGER refuse BEFORE UPDATE ON saga FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    # One by one up to the last step of both: its two replies of either saga are one batch.
    for name in ("van", "saga.moving", "van", "phone", "saga.moving", "saga.moving"):
        office.runtime.answer(name)
    assert office.saga(good)["status"] == "completed"
    assert office.saga(bad)["status"] == "stuck"
    assert "never" in office.saga(bad)["reason"]
    settled = [row["position"] for row in office.deliveries() if row["saga_id"] == good]
    assert sorted(settled) == [2, 3, 4]
    office.check_history()


def patient(version: int, timeout: timedelta) -> Saga[Move]:
    return Saga(
        name="moving",
        version=version,
        data=Move,
        steps=(
            Step("load", lambda move: Load(n=move.n), until=Loaded, on_success=keep),
            Step("drive", lambda move: Drive(n=move.n), timeout=timeout),
        ),
    )


def test_a_time_that_postgres_cannot_count_to_stops_no_other_version(
    runtime: Any, outside: Any
) -> None:
    van, _ = contexts()
    assert isinstance(van, Context)
    old, new = patient(1, timedelta(minutes=1)), patient(2, timedelta(minutes=1))
    step = new.steps[1]
    # The declaration may refuse it; a release that did not has stored its sagas.
    object.__setattr__(step, "timeout", timedelta(days=300_000 * 365))
    office = Office(runtime([old, new], [van]), outside)
    others = office.start(*range(1, 6), saga=old)
    (far,) = office.start(9, saga=new)
    everyone(office, follow=True)
    assert {office.saga(id)["status"] for id in others} == {"completed"}
    assert office.saga(far)["status"] == "stuck"
    assert "out of range" in office.saga(far)["reason"]


def test_a_handler_beside_it_in_the_same_transaction_runs_for_good(
    runtime: Any, outside: Any
) -> None:
    """A saga's trouble in a context's transaction is neither its handler's, nor its effects' end."""
    outside.execute("CREATE TABLE effect (n int NOT NULL)")
    outside.execute(REFUSALS["its state"])
    van = Context("van")

    @van.handles(Load, emits=(Loaded,))
    def load(command: Load, work: Work) -> None:
        work.execute("INSERT INTO effect VALUES (%(n)s)", {"n": command.n})
        work.publish(Loaded(n=command.n, note=f"loaded {command.n}"))

    @van.handles(Drive)
    def drive(command: Drive, work: Work) -> None: ...

    office = Office(runtime([MOVING], [van, contexts()[1]]), outside)
    office.start(*range(1, 10))
    everyone(office, follow=True)
    effects = [row["n"] for row in office.rows("SELECT n FROM effect ORDER BY n")]
    assert effects == list(range(1, 10))
