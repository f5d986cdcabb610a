"""Idempotency keys belong to what is meant: they outlive replays, until an effect is known undone."""

from typing import Any
from uuid import UUID

import pytest

from boundary.orchestration.operator_actions import Acted
from internals.database.unit_of_work import joined
from saga import ActRefused
from saga.messages import Cancelled, Message, Replayed
from tests.boundary.worlds.deadline_saga import ONCE, Port, failing

WHY = "the bank is open again"


@pytest.fixture
def port(runtime: Any, outside: Any) -> Port:
    return Port(runtime, outside)


def stuck(port: Port, fails: int = 1, **bank: Any) -> UUID:
    """A crossing whose charge called a bank, and failed then, for good."""
    bank = {"charge": failing(fails), "retry": ONCE, "external": True, **bank}
    port.open("cabins", "bank", "pier", **bank)
    id = port.start()
    port.settle()
    assert port.status(id) == "stuck"
    return id


def act(port: Port, id: UUID, message: Message) -> Acted:
    with port.runtime.engine.begin() as connection:
        acted = port.runtime._administration.acts.act(joined(connection), id, message, actor="ann")
    port.settle()
    return acted


def test_a_replay_calls_under_the_same_key(port: Port) -> None:
    id = stuck(port, fails=2)
    act(port, id, Replayed(reason=WHY))
    act(port, id, Replayed(reason=WHY, data={"cents": 5}))  # corrected data is no other intent
    assert port.status(id) == "completed"
    first, *others = port.keys("bank.charge")
    assert others == [first, first]
    assert first == f"bank:{port.deliveries('bank.charge')[0]['message_id']}"


def test_an_operator_who_knows_that_nothing_was_done_gives_it_another(port: Port) -> None:
    id = stuck(port, fails=2)
    act(port, id, Replayed(reason=WHY, no_effect=True))
    act(port, id, Replayed(reason=WHY))
    first, second, third = port.keys("bank.charge")
    assert first != second == third
    assert [row["detail"].get("no_effect") for row in port.audit()] == [True, None]


def test_nobody_can_say_so_of_what_is_not_sent_anew(port: Port) -> None:
    id = stuck(port)
    with port.runtime.engine.begin() as connection:
        port.runtime._administration.acts.parked.retry(
            joined(connection),
            [row["message_id"] for row in port.deliveries("bank.charge")],
            actor="bob",
            reason=WHY,
        )
    with pytest.raises(ActRefused, match="is not parked any more"):
        act(port, id, Replayed(reason=WHY, no_effect=True))
    port.settle()
    assert len(set(port.keys("bank.charge"))) == 1


def test_a_step_that_was_undone_is_done_again_under_another_key(port: Port) -> None:
    id = stuck(port)
    act(port, id, Replayed(reason=WHY, from_step="charge"))
    first, second = port.keys("bank.charge")
    assert first != second
    ((_, _, undone),) = [call for call in port.calls if call[0] == "bank.refund"]
    assert undone == first
    assert port.status(id) == "completed"


def test_a_compensation_says_what_it_undoes_and_runs_under_one_key(port: Port) -> None:
    """It runs for the doubt, and once more when the charge turns out to have been made."""
    port.open("cabins", "bank", charge=lambda *_: port.give_up(), external=True)
    id = port.start()
    port.settle()
    assert port.status(id) == "compensated"
    (charged,) = port.keys("bank.charge")
    refunds = [call[1:] for call in port.calls if call[0] == "bank.refund"]
    assert len(refunds) == 2
    assert set(refunds) == {(refunds[0][0], charged)}
    assert refunds[0][0] != charged
    assert [call[2] for call in port.calls if call[0] == "bank.charge"] == [None]


def test_one_that_undoes_several_attempts_names_what_they_had_in_common(port: Port) -> None:
    id = stuck(port, fails=2)
    act(port, id, Replayed(reason=WHY))
    act(port, id, Cancelled(reason="enough"))
    assert port.status(id) == "compensated"
    ((_, _, undone),) = [call for call in port.calls if call[0] == "bank.refund"]
    assert {undone} == set(port.keys("bank.charge"))
