"""Errors: what they say, and what they carry."""

from uuid import UUID

from saga import IdConflict, Rejected, TookTooLong


def test_an_id_conflict_says_each_reason() -> None:
    one, two = UUID(int=1), UUID(int=2)
    error = IdConflict({one: "1 is taken", two: "2 is taken"})
    assert str(error) == "1 is taken; 2 is taken"
    assert error.reasons == {one: "1 is taken", two: "2 is taken"}


def test_what_took_too_long_says_its_limit() -> None:
    error = TookTooLong(2.5)
    assert (str(error), error.limit) == ("took longer than its limit of 2.5 s", 2.5)


def test_a_rejection_has_its_reason() -> None:
    assert (str(Rejected("full")), Rejected("full").reason) == ("full", "full")
