"""What can happen to a patient of the clinic, and how the clinic is wired.

Deadlines and waits are long where a test turns the clock, so that nothing depends on how fast the
machine is.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine

from boundary import Runtime, Settings
from internals import Context
from saga import Parallel, Retry, Saga, Step, Wait
from tests.scenarios.clinic import (
    CONTEXTS,
    Admit,
    Admitted,
    Book,
    Charge,
    Declined,
    Discharge,
    Erase,
    Give,
    Letter,
    Order,
    Refund,
    Release,
    Rostered,
    Scan,
    Signed,
    Visit,
)
from tests.scenarios.clinic_staff import create_tables, places

__all__ = ["create_tables", "make_runtime"]  # what a house is made with

HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
SOON = timedelta(milliseconds=300)


def step(name: str, command: type[Order], undo: type[Order] | None, **changes: Any) -> Step[Visit]:
    return Step(
        name,
        lambda visit: command(patient=visit.patient),
        compensation=None if undo is None else lambda visit: undo(patient=visit.patient),
        **changes,
    )


def keep_bed(visit: Visit, event: Admitted) -> Visit:
    return visit.model_copy(update={"bed": event.bed})


def keep_signature(visit: Visit, event: Signed) -> Visit:
    return visit.model_copy(update={"signed_by": event.by})


def saga(name: str, *steps: Any, **changes: Any) -> Saga[Visit]:
    return Saga(name=name, data=Visit, steps=steps, **changes)


ADMIT = step("admit", Admit, Discharge, until=Admitted, on_success=keep_bed)
BOOK = step("book", Book, Release, until=Rostered)
CHARGE = step("charge", Charge, Refund)
SCAN = step("scan", Scan, Erase)
GIVE = Step[Visit]("give", lambda visit: Give(patient=visit.patient, drug=visit.drug), pivot=True)
LETTER = step("letter", Letter, None)

VISIT = saga("visit", ADMIT, CHARGE, GIVE, LETTER)
#: The next version of it, in which nobody writes letters any more.
NEXT_VISIT = saga("visit", ADMIT, CHARGE, GIVE, version=2)
#: The other compensations go on when one failed.
STUBBORN = saga("stubborn", ADMIT, CHARGE, GIVE, on_compensation_fault="go_on")
#: A charge that failed waits for long until it is tried again.
PATIENT = saga("patient", ADMIT, replace(CHARGE, retry=Retry(attempts=4, backoff=YEAR, cap=YEAR)))
#: A charge that fails is tried for ever.
ENDLESS = saga("endless", replace(CHARGE, retry=Retry(10**6, timedelta(0))))
#: The first failure that counts is the last.
FRAGILE = saga("fragile", *(replace(each, retry=Retry(1)) for each in (CHARGE, SCAN, GIVE)))
TRIAGE = saga("triage", ADMIT)
CHECKUP = saga("checkup", ADMIT, SCAN)
#: A scan that failed for good is compensated, though it may have been made.
FORGIVING = saga("forgiving", ADMIT, step("scan", Scan, Erase, on_fault="compensate"))
URGENT = saga("urgent", ADMIT, step("scan", Scan, Erase, timeout=HOUR))
SHORT = saga("short", ADMIT, step("scan", Scan, Erase, timeout=SOON), CHARGE)
HASTY = saga(
    "hasty",
    step("charge", Charge, Refund, timeout=HOUR),
    step("book", Book, Release, until=Rostered, timeout=HOUR),
)
SURGERY = saga("surgery", ADMIT, Parallel(BOOK, SCAN, CHARGE), GIVE)
CONSENT = saga(
    "consent",
    ADMIT,
    Wait("sign", until=Signed, rejected_by=Declined, on_success=keep_signature, timeout=HOUR),
    CHARGE,
)

SAGAS = (
    VISIT,
    NEXT_VISIT,
    STUBBORN,
    PATIENT,
    ENDLESS,
    FRAGILE,
    TRIAGE,
    CHECKUP,
    FORGIVING,
    URGENT,
    SHORT,
    HASTY,
    SURGERY,
    CONSENT,
)


def make_runtime(
    settings: Settings,
    contexts: tuple[Context, ...] = CONTEXTS,
    sagas: tuple[Saga[Visit], ...] = SAGAS,
    engine: Engine | None = None,
) -> Runtime:
    return Runtime(
        sagas=sagas,
        contexts=contexts,
        settings=settings,
        engine=engine,
        execution_options={"schema_translate_map": places(settings)},
    )
