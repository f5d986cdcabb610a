"""A saga waits for somebody outside to say yes or no."""

from typing import Any
from uuid import UUID

import pytest

from saga import ActRefused, Event
from tests.scenarios.clinic import Declined, Signed, Sneezed
from tests.scenarios.clinic_sagas import CONSENT

pytestmark = pytest.mark.timeout(300)


def say(clinic: Any, id: UUID, event: Event, message_id: UUID | None = None) -> None:
    """Hand on what the patient says, in the transaction of one's own writes."""
    with clinic.runtime.engine.begin() as connection:
        clinic.runtime.signal(connection, id, event, id=message_id)


def wait_for_question(clinic: Any, *ids: UUID) -> None:
    clinic.wait_until(
        lambda: all(clinic.step(id, "sign").get("phase") == "waiting" for id in ids),
        "the patients to be asked",
    )


def test_a_signature_ends_the_wait_and_a_refusal_turns_back(clinic: Any) -> None:
    worker = clinic.start_worker()
    yes, no = clinic.visit(CONSENT, 1, 2)
    wait_for_question(clinic, yes, no)
    worker.kill()  # a wait needs nobody
    message = UUID(int=7)
    say(clinic, yes, Signed(patient=1, by="Ann"), message)
    say(clinic, yes, Signed(patient=1, by="Ann"), message)  # the same word twice
    say(clinic, no, Declined(patient=2, reason="she is afraid"))

    clinic.start_worker()
    clinic.wait_until_over()
    assert clinic.status(yes) == "completed"
    assert clinic.chart(1) == ("admitted", "charged")
    assert clinic.data(yes)["signed_by"] == "Ann"
    assert clinic.status(no) == "compensated"
    assert clinic.reason(no) == "step sign: patient.declined: she is afraid"
    assert clinic.chart(2) == ("admitted", "discharged")
    assert clinic.count("outbox", "kind = 'patient.signed'") == 1
    # The deadlines of both are cleared.
    assert clinic.delivery(yes, "saga.timed_out")[0] == "revoked"
    assert clinic.delivery(no, "saga.timed_out")[0] == "revoked"
    clinic.check_history()


def test_a_signature_that_comes_early_is_kept(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "admit", "hold")
    (id,) = clinic.visit(CONSENT, 1)
    clinic.wait_for_run(1, "admit")
    say(clinic, id, Signed(patient=1, by="Bob"))
    clinic.wait_until(
        lambda: clinic.delivery(id, "patient.signed")[0] == "done", "the signature to be taken"
    )
    assert clinic.step(id, "sign") == {}

    clinic.let_go(1, "admit")
    clinic.wait_until_over()
    assert clinic.status(id) == "completed"
    assert clinic.data(id)["signed_by"] == "Bob"
    assert clinic.chart(1) == ("admitted", "charged")
    # It was never asked, so nothing was to be late.
    assert clinic.delivery(id, "saga.timed_out") is None
    clinic.check_history()


def test_nobody_signs_in_time(clinic: Any) -> None:
    clinic.start_worker()
    (id,) = clinic.visit(CONSENT, 1)
    wait_for_question(clinic, id)
    clinic.turn_clock(id, "saga.timed_out")
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.reason(id) == "step sign: no outcome within 1:00:00"
    assert clinic.chart(1) == ("admitted", "discharged")

    # A signature after all is taken note of, and changes nothing.
    say(clinic, id, Signed(patient=1, by="Ann"))
    clinic.wait_until_over()
    assert clinic.delivery(id, "patient.signed") == ("done", 0, "stale")
    assert clinic.status(id) == "compensated"
    assert clinic.chart(1) == ("admitted", "discharged")
    clinic.check_history()


def test_what_no_wait_takes_is_refused_in_words(clinic: Any) -> None:
    (id,) = clinic.visit(CONSENT, 1)
    with pytest.raises(ActRefused, match=r"consent waits for no patient\.sneezed; it takes "):
        say(clinic, id, Sneezed(patient=1))
    assert clinic.count("outbox", "kind = 'patient.sneezed'") == 0
