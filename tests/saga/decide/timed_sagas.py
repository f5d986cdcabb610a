"""Sagas with deadlines, waits and doubts, of which the stories of the rules 8 to 11 are told."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from saga import Cancelled, Command, Event, Message, Saga, Step, Wait
from saga.testing import Story, given

MINUTE = timedelta(minutes=1)


class Voyage(BaseModel):
    """The data: a price to correct, the outcomes that were kept, and what needs no undoing."""

    price: int = 1
    kept: tuple[str, ...] = ()
    nothing_to_undo: tuple[str, ...] = ()


class Order(Command, kind="voyage.order"):
    """What a step commands."""

    step: str
    price: int = 1


class Undo(Command, kind="voyage.undo"):
    """What its compensation commands."""

    step: str


class Ordered(Event, kind="voyage.ordered"):
    """Yes, from further down."""


class Declined(Event, kind="voyage.declined"):
    """No."""


class Approved(Event, kind="boss.approved"):
    """Yes, from outside."""

    by: str = "Ann"


class Denied(Event, kind="boss.denied"):
    """No, from outside."""

    reason: str = ""


def step(name: str, *, undo: bool = True, **changes: Any) -> Step[Voyage]:
    """A step that ends with a reply unless told otherwise, and keeps its name."""

    def action(voyage: Voyage) -> Order:
        return Order(step=name, price=voyage.price)

    def keep(voyage: Voyage, outcome: Message) -> Voyage:
        return voyage.model_copy(update={"kept": (*voyage.kept, name)})

    def compensation(voyage: Voyage) -> Undo | None:
        return None if name in voyage.nothing_to_undo else Undo(step=name)

    plain = Step(name, action, on_success=keep, compensation=compensation if undo else None)
    return replace(plain, **changes)


def sign(**changes: Any) -> Wait[Voyage]:
    """A boss is to agree."""

    def keep(voyage: Voyage, outcome: Approved) -> Voyage:
        return voyage.model_copy(update={"kept": (*voyage.kept, f"signed by {outcome.by}")})

    plain = Wait[Voyage]("sign", until=Approved, rejected_by=Denied, on_success=keep)
    return replace(plain, **changes)


def saga(*steps: Any, **changes: Any) -> Saga[Voyage]:
    return Saga("voyage", Voyage, steps, **changes)


def begin(*steps: Any, data: Voyage | None = None, **changes: Any) -> Story[Voyage]:
    return given(saga(*steps, **changes), data or Voyage())


FLIGHT, HOTEL, CAR = step("flight"), step("hotel", timeout=MINUTE), step("car", timeout=MINUTE)
PAYMENT = step("payment", undo=False, pivot=True, timeout=MINUTE)
TICKETS = step("tickets", undo=False, timeout=MINUTE)


def phase(story: Story[Voyage], name: str) -> str:
    return story.state.steps[name].phase.value


CANCEL = Cancelled(reason="ill")


def taken_back(story: Story[Voyage]) -> list[str]:
    """The steps whose commands are taken back, if nobody has started them."""
    assert story.decision is not None
    return [name for _, name in story.decision.revoke]


def retried(story: Story[Voyage]) -> tuple[list[object], list[object]]:
    """What is parked and delivered again, and what a new message takes the place of."""
    assert story.decision is not None
    return list(story.decision.retry), list(story.decision.supersede)
