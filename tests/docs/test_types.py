"""Types: what a type checker finds in the definition of a saga."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

#: A line that ends with "wrong" is refused, and no other.
_DEFINED = """
from pydantic import BaseModel
from saga import Command, Event, Parallel, Saga, Step, Wait

class Order(BaseModel):
    number: int
    seats: tuple[str, ...] = ()

class Seat(Command, kind="seats.seat"):
    number: int

class Seated(Event, kind="seats.seated"):
    seats: tuple[str, ...]

class Paid(Event, kind="bank.paid"):
    cents: int

def seat(order: Order) -> Seat:
    return Seat(number=order.number)

def keep(order: Order, event: Seated) -> Order:
    return order.model_copy(update={"seats": event.seats})

Saga("order", Order, (
    Step("plain", seat),
    Step("seat", seat, until=Seated, on_success=keep),
    Step("here", seat, until=Seated, on_success=lambda o, e: o if e.seats else o),
    Step("other", seat, until=Paid, on_success=keep),  # wrong
    Step("there", seat, until=Paid, on_success=lambda o, e: o if e.seats else o),  # wrong
    Step("data", lambda o: Seat(number=o.nubmer)),  # wrong
    Parallel(
        Step("left", seat, until=Seated, on_success=keep),
        Step("right", seat, until=Paid, on_success=keep),  # wrong
    ),
    Wait("come", until=Seated, on_success=keep),
    Wait("pay", until=Paid, on_success=keep),  # wrong
))
apart = Step[Order]("apart", seat, until=Seated, on_success=keep)
"""


def test_an_outcome_is_held_against_what_is_made_of_it(tmp_path: Path) -> None:
    module = tmp_path / "defined.py"
    module.write_text(_DEFINED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = {n for n, line in enumerate(_DEFINED.splitlines(), 1) if line.endswith("# wrong")}
    found = {int(n) for n in re.findall(r"defined\.py:(\d+): error", done.stdout)}
    assert found == wrong, done.stdout + done.stderr
