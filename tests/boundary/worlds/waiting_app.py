"""Parcels that someone has to sign for: a saga that waits, and one whose definition can raise."""

from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work
from saga import Command, Event, Retry, Saga, Step, Wait


class Parcel(BaseModel):
    number: str
    doors: list[str] = ["front"]
    door: int = 0


class Carry(Command, kind="van.carry"):
    door: str


class Signed(Event, kind="door.signed"):
    by: str


class Returned(Event, kind="door.returned"):
    pass


van = Context("van")


@van.handles(Carry, retry=Retry(attempts=1))
def carry(command: Carry, work: Work) -> None:
    if command.door == "back":
        raise RuntimeError("the dog")


PARCEL = Saga(
    name="parcel",
    data=Parcel,
    key=lambda parcel: parcel.number,
    steps=(
        Step("carry", lambda parcel: Carry(door=parcel.doors[parcel.door])),
        Wait("signature", until=Signed, rejected_by=Returned),
    ),
)


def make() -> Runtime:
    return Runtime(sagas=[PARCEL], contexts=[van])
