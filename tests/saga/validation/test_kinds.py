"""Kinds: what one context sends with a class of its own, another must be able to read."""

import pytest

from saga import DefinitionError, Event
from saga.validation.kinds import check_readable


class Sold(Event, kind="shop.sold"):
    order: str
    cents: int = 0


class SoldToUs(Event, kind="shop.sold"):
    """The same event, for who needs less of it."""

    order: str


class SoldAbroad(Event, kind="shop.sold"):
    """The same event, for who needs what nobody sends."""

    order: str
    country: str


class Returned(Event, kind="shop.returned"):
    country: str


def test_a_class_of_its_own_may_leave_out_fields() -> None:
    check_readable(Sold, "shop", SoldToUs, "stock")


@pytest.mark.parametrize("read", [Sold, Returned])
def test_one_class_and_another_kind_are_no_matter(read: type[Event]) -> None:
    check_readable(Sold, "shop", read, "stock")


def test_a_field_that_is_required_must_be_sent() -> None:
    with pytest.raises(DefinitionError, match="which has no field 'country', and customs reads"):
        check_readable(Sold, "shop", SoldAbroad, "customs")
