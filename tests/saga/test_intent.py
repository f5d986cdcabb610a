"""What a message means, beside what it is: the same however often it is said."""

from dataclasses import FrozenInstanceError, replace
from uuid import UUID

import pytest

from saga import Category, Envelope, Event


class Sailed(Event, kind="ports.sailed"):
    """Something that a handler tells."""


FIRST = Envelope(UUID(int=1), "ports.sail", Category.COMMAND, "{}")
AGAIN = replace(FIRST, id=UUID(int=2), intent=FIRST.id)


def test_the_key_is_of_the_consumer_and_of_what_is_meant() -> None:
    assert FIRST.idempotency_key("ports") == f"ports:{FIRST.id}"
    assert AGAIN.idempotency_key("ports") == FIRST.idempotency_key("ports")
    assert FIRST.idempotency_key("banks") != FIRST.idempotency_key("ports")


def test_what_is_sent_below_is_known_by_its_name_and_by_what_it_means() -> None:
    id, intent = FIRST.ids_below("sailed")
    again, meant = AGAIN.ids_below("sailed")
    assert (intent, meant) == (None, id)
    assert again != id != FIRST.ids_below("docked")[0]
    assert FIRST.ids_below("sailed") == (id, None)


def test_what_is_caused_belongs_to_the_same_tree_one_deeper() -> None:
    below = FIRST.caused(
        Sailed(),
        id=UUID(int=3),
        category=Category.EVENT,
        recipient=None,
        sender="ports",
        intent=UUID(int=4),
    )
    assert (below.causation_id, below.root_id, below.depth) == (FIRST.id, FIRST.id, 1)
    assert below.idempotency_key("banks") == f"banks:{UUID(int=4)}"
    assert (below.recipient, below.sender) == (None, "ports")
    to = FIRST.caused(
        Sailed(), id=UUID(int=5), category=Category.EVENT, recipient="banks", sender=None
    )
    assert (to.recipient, to.sender, to.intent) == ("banks", None, None)


def test_how_deep_it_lies_is_no_part_of_what_it_says() -> None:
    assert FIRST.depth == 0
    assert replace(FIRST, depth=7) == FIRST != AGAIN


def test_it_never_changes() -> None:
    with pytest.raises(FrozenInstanceError):
        FIRST.kind = "ports.dock"  # type: ignore[misc]
