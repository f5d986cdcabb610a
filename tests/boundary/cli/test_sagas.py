"""`saga replay`, `skip`, `cancel` and `signal` on one saga or a few, and what the audit says."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import redis

from boundary import Settings
from tests.boundary.cli.parcels import HEAL, WHY, Parcels
from tests.boundary.worlds.command_line import Orders, Ran

# --- replay


def test_a_replayed_saga_goes_on_and_the_audit_says_who_and_why(
    act: Callable[..., Ran], orders: Orders
) -> None:
    [id] = orders.stuck(1)
    ran = act("replay", "checkout:stuck-0", "--reason", WHY, *HEAL)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "checkout:stuck-0 replayed: stuck → running; sent payments.charge\n"
    orders.handle()
    assert orders.statuses() == {"stuck-0": "completed"}
    assert orders.audit() == [("ann", "replayed", WHY)]
    assert orders.rows("SELECT saga_id, detail FROM audit") == [
        (id, {"data": {"cents": 100}, "from_step": None})
    ]


def test_whoever_is_woken_hears_it_after_the_commit(
    act: Callable[..., Ran], orders: Orders, redis_client: redis.Redis, settings: Settings
) -> None:
    orders.stuck(1)
    doorbell = f"{settings.namespace}:doorbell:payments"
    redis_client.delete(doorbell)
    act("replay", "stuck-0", "--reason", WHY, "--dry-run")
    assert redis_client.llen(doorbell) == 0
    act("replay", "stuck-0", "--reason", WHY)
    assert redis_client.llen(doorbell) == 1


def test_one_may_be_replayed_from_an_earlier_step(act: Callable[..., Ran], orders: Orders) -> None:
    orders.stuck(1)
    ran = act("replay", "stuck-0", "--reason", WHY, *HEAL, "--from", "stock")
    assert ran.code == 1  # the note was written, and cannot be undone
    assert "step note is done and has no compensation" in ran.complaint
    ran = act("replay", "stuck-0", "--reason", WHY, *HEAL, "--from", "payment")
    assert ran.code == 0
    assert orders.rows("SELECT detail->>'from_step' FROM audit") == [("payment",)]


def test_one_that_is_refused_does_not_stop_the_others(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(2)
    orders.place("done")
    orders.handle()
    names = ["stuck-0", "done", "checkout:stuck-1", "stuck-0"]
    ran = act("replay", *names, "--reason", WHY, *HEAL)
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("stuck-0", "checkout:stuck-1", "done", "replayed")
    ]
    assert "done refused: " in lines[2]
    assert "it is completed, and only a stuck saga can be replayed" in lines[2]
    assert lines[3] == "replayed 2, refused 1"
    assert orders.statuses() == {"stuck-0": "running", "stuck-1": "running", "done": "completed"}
    assert len(orders.audit()) == 2


def test_of_two_operators_at_once_exactly_one_wins(
    saga: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)

    def replay(actor: str) -> Ran:
        return saga(
            *("replay", "stuck-0", "--reason", WHY),
            SAGA_APP="shop:make",
            SAGA_ACTOR=actor,
        )

    with ThreadPoolExecutor(2) as both:
        ran = sorted(both.map(replay, ("ann", "bob")), key=lambda one: one.code)
    assert [one.code for one in ran] == [0, 1]
    assert "it is running, and only a stuck saga can be replayed" in ran[1].complaint
    assert len(orders.audit()) == 1
    charges = "SELECT count(*) FROM outbox WHERE kind = 'payments.charge'"
    assert orders.rows(charges) == [(2,)]  # the one that failed, and one more


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--data", '{"cents"'], 2, "--data is not JSON at line 1"),
        (["--data", "[]"], 2, "--data must be an object of the fields to correct"),
        (["--data", "@nowhere.json"], 2, "--data @nowhere.json: No such file or directory"),
        (["--data", '{"dollars": 1}'], 1, "the saga's data has no field 'dollars'"),
        (["--data", '{"cents": "four"}'], 1, "the corrected data does not fit: field cents:"),
        (["--from", "shipping"], 1, "it has no step 'shipping'; its steps are stock, wrapping"),
    ],
)
def test_a_correction_that_does_not_fit_is_told(
    act: Callable[..., Ran], orders: Orders, arguments: list[str], code: int, sentence: str
) -> None:
    orders.stuck(1)
    before = orders.tables()
    ran = act("replay", "stuck-0", "--reason", WHY, *arguments)
    assert sentence in ran.complaint
    assert ran.code == code
    assert orders.tables() == before


def test_a_definition_that_raises_is_told_and_nothing_is_changed(
    act: Callable[..., Ran], parcels: Parcels
) -> None:
    parcels.place("P-1", doors=["back"])
    parcels.handle()
    before = parcels.tables()
    ran = act(
        "replay", "P-1", "--reason", WHY, "--data", '{"door": 7}', SAGA_APP="waiting_app:make"
    )
    assert "a function of its definition raised IndexError: list index" in ran.complaint
    assert ran.code == 1
    assert parcels.tables() == before


def test_a_saga_that_the_application_does_not_define_is_told(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)
    with orders.runtime.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE saga SET version = 9")
    ran = act("replay", "stuck-0", "--reason", WHY)
    assert "version 9, which this application does not define" in ran.complaint
    assert ran.code == 1


# --- skip and cancel


def test_a_failed_step_is_skipped(act: Callable[..., Ran], orders: Orders) -> None:
    orders.stuck(1)
    ran = act("skip", "stuck-0", "stock", "--reason", WHY)
    assert "only a step that failed can be skipped; failed: payment" in ran.complaint
    assert ran.code == 1
    ran = act("skip", "stuck-0", "payment", "--reason", WHY)
    assert (ran.code, ran.out) == (0, "stuck-0 skipped: stuck → completed\n")
    assert orders.audit() == [("ann", "skipped", WHY)]


def test_a_cancelled_saga_is_undone(act: Callable[..., Ran], orders: Orders) -> None:
    orders.place("A-1")
    orders.handle("stock", "packing", "saga.checkout")
    ran = act("cancel", "A-1", "--reason", WHY)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("A-1 cancelled: running")
    orders.handle()
    assert orders.statuses() == {"A-1": "compensated"}
    assert orders.audit() == [("ann", "cancelled", WHY)]
    again = act("cancel", "A-1", "--reason", WHY)
    assert "cannot be cancelled: it is compensated already" in again.complaint
    assert again.code == 1


# --- signal


def test_a_signal_lets_a_waiting_saga_go_on(act: Callable[..., Ran], parcels: Parcels) -> None:
    id = parcels.place("P-1")
    parcels.handle()
    signal = ["signal", "P-1", "door.signed", "--data", '{"by": "hidden"}', "--reason", WHY]
    ran = act(*signal, SAGA_APP="waiting_app:make")
    assert (ran.code, ran.err) == (0, "")
    [(sent, kind)] = parcels.signals()
    assert (kind, ran.out) == (
        "door.signed",
        f"parcel:P-1 signalled: door.signed, message {sent}\n",
    )
    parcels.handle()
    assert parcels.statuses() == {"P-1": "completed"}
    assert parcels.audit() == [("ann", "signalled", WHY)]
    assert parcels.rows("SELECT saga_id, message_id, detail FROM audit") == [
        (id, sent, {"kind": "door.signed"})
    ]
    over = act(*signal, SAGA_APP="waiting_app:make")
    assert over.complaint.endswith("is completed, so it waits for nothing any more")
    assert over.code == 1
    assert len(parcels.signals()) == 1


def test_the_same_signal_sent_twice_is_one_message(
    act: Callable[..., Ran], parcels: Parcels
) -> None:
    parcels.place("P-1")
    parcels.place("P-2")
    id = str(uuid4())
    rest = ["door.signed", "--data", '{"by": "x"}', "--reason", WHY, "--id", id, "--json"]
    documents = [
        act("signal", "P-1", *rest, SAGA_APP="waiting_app:make").document for _ in range(2)
    ]
    assert [document["sent"] for document in documents] == [True, False]
    assert [str(sent) for sent, _ in parcels.signals()] == [id]
    assert len(parcels.audit()) == 1
    other = act("signal", "P-2", *rest, SAGA_APP="waiting_app:make")
    assert other.complaint == f"{id} is the id of another message; give this one its own"
    assert other.code == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["van.carry", "--data", "{}"], "waits for no 'van.carry'; it takes door.returned, door.s"),
        (["door.signed", "--data", "{}"], "door.signed: field by: Field required"),
        (["door.signed", "--data", '{"by": 7}'], "field by: Input should be a valid string"),
        (["door.signed", "--data", "{"], "Invalid JSON"),
        (["door.signed"], "Missing option '--data'"),
        (["door.signed", "--data", '{"by": "x"}', "--id", "7"], "--id '7' is no UUID"),
    ],
)
def test_a_signal_that_cannot_be_sent_is_told(
    act: Callable[..., Ran], parcels: Parcels, arguments: list[str], sentence: str
) -> None:
    parcels.place("P-1")
    before = parcels.tables()
    ran = act("signal", "P-1", *arguments, "--reason", WHY, SAGA_APP="waiting_app:make")
    assert sentence in ran.complaint
    assert ran.code == 2
    assert parcels.tables() == before


def test_who_knows_that_a_call_had_no_effect_says_so_and_sees_what_follows(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)
    replay = ("replay", "stuck-0", "--reason", WHY, *HEAL, "--no-effect")
    tried = act(*replay, "--dry-run")
    assert "would send payments.charge; with a new idempotency key" in tried.out
    [done] = act(*replay, "--json").document["done"]
    assert done["new_key"] is True
    assert orders.rows("SELECT detail ->> 'no_effect' FROM audit") == [("true",)]
    first, second = orders.rows(
        "SELECT id, intent_id FROM outbox WHERE kind = 'payments.charge' ORDER BY seq"
    )
    assert (first[1], second[1]) == (None, None)


def test_without_it_what_is_sent_anew_means_what_it_meant(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)
    act("replay", "stuck-0", "--reason", WHY, *HEAL)
    first, second = orders.rows(
        "SELECT id, intent_id FROM outbox WHERE kind = 'payments.charge' ORDER BY seq"
    )
    assert second[1] == first[0]
