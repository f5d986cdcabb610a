"""A small clinic: what its contexts are told, and what they do.

Patients are admitted, scanned by a machine that is not in the database, operated by a crew that
listens to the theatre, charged, and given a drug that cannot be taken back.
"""

from datetime import timedelta
from uuid import uuid4

from pydantic import BaseModel

from internals import Context, Work
from saga import Command, Event, Retry
from tests.scenarios.clinic_staff import Busy, Hopeless, note_run, obey, play

#: Three runs in all, in quick succession.
QUICK = Retry(attempts=3, backoff=timedelta(milliseconds=10), never=(Hopeless,), always=(Busy,))


class Visit(BaseModel):
    patient: int
    drug: str = "aspirin"
    bed: str | None = None
    signed_by: str | None = None


class Order(Command):
    """Every command is about a patient."""

    patient: int


class Admit(Order, kind="ward.admit"): ...


class Discharge(Order, kind="ward.discharge"): ...


class Letter(Order, kind="ward.letter"): ...


class Scan(Order, kind="lab.scan"): ...


class Erase(Order, kind="lab.erase"): ...


class Book(Order, kind="theatre.book"): ...


class Release(Order, kind="theatre.release"): ...


class Charge(Order, kind="till.charge"): ...


class Refund(Order, kind="till.refund"): ...


class Give(Order, kind="pharmacy.give"):
    drug: str


class News(Event):
    """Every event is about a patient."""

    patient: int


class Admitted(News, kind="ward.admitted"):
    bed: str


class Booked(News, kind="theatre.booked"): ...


class Released(News, kind="theatre.released"): ...


class Rostered(News, kind="crew.rostered"): ...


class Signed(News, kind="patient.signed"):
    by: str


class Declined(News, kind="patient.declined"):
    reason: str


class Sneezed(News, kind="patient.sneezed"):
    """Nobody listens to this."""


ward, lab, theatre = Context("ward"), Context("lab"), Context("theatre")
crew, till, pharmacy = Context("crew"), Context("till"), Context("pharmacy")


@ward.handles(Admit, emits=(Admitted,), retry=QUICK)
def admit(command: Admit, work: Work) -> None:
    play(work, command.patient, "admit", "admitted")
    # A bed of its own for each run: one that was given twice shows.
    work.publish(Admitted(patient=command.patient, bed=f"bed {uuid4()}"))


@lab.handles(Scan, external=True, retry=QUICK)
def scan(command: Scan, work: Work) -> None:
    # The machine is outside: what it was told, with which key, is in the log.
    note_run(work, command.patient, "scan")
    obey(work, command.patient, "scan")
    work.begin()
    play(work, command.patient, "read", "scanned")


@theatre.handles(Book, emits=(Booked,), retry=QUICK)
def book(command: Book, work: Work) -> None:
    play(work, command.patient, "book", "booked")
    work.publish(Booked(patient=command.patient))


@theatre.handles(Release, emits=(Released,), retry=QUICK)
def release(command: Release, work: Work) -> None:
    play(work, command.patient, "release", "released")
    work.publish(Released(patient=command.patient))


@crew.reacts_to(Booked, emits=(Rostered,), retry=QUICK)
def roster(event: Booked, work: Work) -> None:
    play(work, event.patient, "roster", "rostered")
    work.publish(Rostered(patient=event.patient))


@crew.reacts_to(Released, retry=QUICK)
def send_home(event: Released, work: Work) -> None:
    play(work, event.patient, "send home", "sent home")


@pharmacy.handles(Give, retry=QUICK)
def give(command: Give, work: Work) -> None:
    play(work, command.patient, "give", f"given {command.drug}")


def _plain(context: Context, command: type[Order], act: str, effect: str) -> None:
    @context.handles(command, retry=QUICK)
    def handle(command: Order, work: Work) -> None:
        play(work, command.patient, act, effect)


_plain(ward, Discharge, "discharge", "discharged")
_plain(ward, Letter, "letter", "letter sent")
_plain(lab, Erase, "erase", "erased")
_plain(till, Charge, "charge", "charged")
_plain(till, Refund, "refund", "refunded")

CONTEXTS = (ward, lab, theatre, crew, till, pharmacy)
