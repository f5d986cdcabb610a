"""Batch: what becomes of one delivery, and what its saga is told, without a database."""

from dataclasses import replace
from typing import Any

import pytest

from internals.hop.batch import Batch
from internals.hop.outcome import Failed
from internals.store.delivery import Delivery, DeliveryState
from internals.store.outbox import DEFAULT_MAX_PAYLOAD
from saga import Category, Command, Faulted, Rejected, Retry


class Mend(Command, kind="forge.mend"):
    pass


class Busy(Exception):
    """A partner asks for patience."""


class Wrong(ValueError):
    """What no second run makes right."""


@pytest.fixture
def delivery(command: Any) -> Any:
    """A step's command that failed so many times before, under a policy of the step or none."""

    def make(attempts: int = 0, retry: Retry | None = None) -> Delivery:
        return Delivery(command(Mend(), saga="trip", retry=retry), attempts, rings=0)

    return make


class TestReject:
    @pytest.mark.parametrize(
        ("reason", "told"),
        [
            (ValueError("sold out"), "sold out"),
            (None, "None"),
            (404, "404"),
            ("x" * 2 * DEFAULT_MAX_PAYLOAD, "x" * 2000),
        ],
        ids=["error", "nothing", "number", "huge"],
    )
    def test_any_reason_at_all_can_be_told(self, delivery: Any, reason: Any, told: str) -> None:
        batch = Batch("forge")
        batch.reject(delivery(), Rejected(reason))
        (reply,), (settlement,) = batch.messages, batch.settlements
        assert reply.payload == f'{{"reason":"{told}"}}'
        assert (settlement.state, settlement.error) == (DeliveryState.DONE, f"rejected: {told}")


class TestFail:
    def failed(self, delivery: Delivery, error: Exception, retry: Retry) -> tuple[str, int]:
        batch = Batch("forge")
        batch.fail(Failed(delivery, error, retry, delivery.attempts + 1))
        (settlement,) = batch.settlements
        return settlement.state.value, settlement.attempts

    def test_what_is_never_tried_again_is_parked_at_once(self, delivery: Any) -> None:
        retry = Retry(attempts=9, never=(Wrong,))
        assert self.failed(delivery(), Wrong(), retry) == ("parked", 1)
        assert self.failed(delivery(), ValueError(), retry) == ("pending", 1)

    @pytest.mark.parametrize("attempts", [1, 3])
    def test_what_is_always_tried_again_is_never_parked(self, delivery: Any, attempts: int) -> None:
        retry = Retry(attempts=attempts, always=(Busy,))
        failures = 0
        for _ in range(9):
            state, failures = self.failed(delivery(failures), Busy(), retry)
            assert state == "pending"
            assert failures < attempts  # so that a lease may be taken once more

    def test_a_step_s_policy_keeps_the_handler_s_classes(self, delivery: Any) -> None:
        handler = Retry(never=(Wrong,), always=(Busy,))
        step = Retry(attempts=1)
        assert self.failed(delivery(retry=step), Wrong(), handler) == ("parked", 1)
        assert self.failed(delivery(retry=step), Busy(), handler) == ("pending", 0)
        assert self.failed(delivery(retry=step), ValueError(), handler) == ("parked", 1)


class TestPark:
    def test_a_fault_of_another_that_is_parked_is_told(self, delivery: Any) -> None:
        assert self.told("saga.trip", by="forge", delivery=delivery()) == [Faulted.kind]

    def test_a_fault_that_was_told_of_itself_is_not_told_again(self, delivery: Any) -> None:
        assert self.told("saga.trip", by="saga.trip", delivery=delivery()) == []

    def test_a_fault_whose_body_is_torn_is_parked_like_any_other(self, delivery: Any) -> None:
        told = delivery().message.caused(
            Faulted(consumer="forge", message_kind=Mend.kind, error="boom"),
            id=delivery().message.id,
            category=Category.REPLY,
            recipient="saga.trip",
            sender="forge",
        )
        batch = Batch("saga.trip")
        batch.park(Delivery(replace(told, payload="{"), 0, 0), "PayloadError", attempts=1)
        assert [message.kind for message in batch.messages] == [Faulted.kind]

    def told(self, consumer: str, *, by: str, delivery: Delivery) -> list[str]:
        fault = Faulted(consumer=by, message_kind=Mend.kind, error="boom")
        message = delivery.message.caused(
            fault,
            id=delivery.message.id,
            category=Category.REPLY,
            recipient=consumer,
            sender=by,
        )
        batch = Batch(consumer)
        batch.park(Delivery(message, 0, 0), "KeyError", attempts=1)
        return [told.kind for told in batch.messages]
