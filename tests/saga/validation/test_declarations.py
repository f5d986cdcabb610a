"""What is declared is looked at when it is declared, and never changes after that."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from pydantic import BaseModel

from saga import Command, DefinitionError, Event, Saga, Step, Wait


class Data(BaseModel):
    """Nothing."""


class Ask(Command, kind="office.ask"): ...


class Signed(Event, kind="office.signed"): ...


class SignedToo(Event, kind="office.signed"):
    """Another class that says it is the same."""

    by: str


WAIT: Wait[Data] = Wait("signature", until=Signed)
STEP: Step[Data] = Step("ask", lambda _: Ask(), until=Signed)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"name": "No Word"}, "'No Word'"),
        ({"until": Ask}, "until must name an Event"),
        ({"rejected_by": Ask}, "rejected_by must name an Event"),
        ({"rejected_by": Signed}, "cannot both end and reject"),
        ({"on_success": "keep"}, "on_success must be a function"),
    ],
)
def test_a_wait_that_makes_no_sense_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    declared: dict[str, Any] = {"name": "signature", "until": Signed}
    with pytest.raises(DefinitionError, match=complaint):
        Wait(**{**declared, **wrong})


def test_two_classes_of_one_kind_in_one_saga_are_refused() -> None:
    other: Step[Data] = Step("sign", lambda _: Ask(), until=SignedToo)
    with pytest.raises(DefinitionError, match=r"two classes of kind 'office\.signed'"):
        Saga("office", Data, (STEP, other))


@pytest.mark.parametrize("declared", [WAIT, STEP, Saga("office", Data, (STEP, WAIT))])
def test_it_never_changes(declared: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        declared.name = "another"
