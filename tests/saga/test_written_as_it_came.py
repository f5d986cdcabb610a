"""What is kept of a message that another release wrote: fields that this one does not know."""

import json

import pytest
from pydantic import BaseModel

from saga import Event, PayloadError, UnreadableMessage
from saga.unknown_fields import Unknown, written_as_it_came


class Room(BaseModel):
    number: str
    beds: tuple[tuple[int, ...], ...] = ()


class Booked(Event, kind="inns.booked"):
    """As this release knows it."""

    order: str
    rooms: tuple[Room, ...] = ()


def kept(text: str) -> object:
    return json.loads(written_as_it_came(Booked.from_json(text), text))


def test_what_has_no_more_fields_is_written_by_this_release() -> None:
    assert kept('{"order": "A"}') == {"order": "A", "rooms": []}


def test_more_fields_are_kept_where_they_were() -> None:
    text = '{"order": "A", "paid": true, "rooms": [{"number": "1", "view": "sea"}]}'
    assert kept(text) == {
        "order": "A",
        "paid": True,
        "rooms": [{"number": "1", "view": "sea", "beds": []}],
    }


@pytest.mark.parametrize("unstorable", ["NaN", "Infinity"])
def test_what_cannot_be_stored_is_refused(unstorable: str) -> None:
    with pytest.raises(PayloadError, match=r"inns\.booked: cannot be kept as it came"):
        kept(f'{{"order": "A", "more": {unstorable}}}')


def test_a_list_that_was_read_with_another_length_is_written_as_it_is() -> None:
    """A validator dropped an item: nobody can say which of the stored ones is which."""
    stored = [{"n": 1, "x": "a"}, {"n": 1, "x": "b"}]
    assert Unknown(stored, [{"n": 1}]).put_back([{"n": 1}]) == [{"n": 1}]


def test_lists_within_items_tell_which_item_it_is() -> None:
    """A set is written in an order of its own: items are found by what was read of them."""
    stored = [{"beds": [[1], [2]], "x": "a"}, {"beds": [[3], [4]], "x": "b"}]
    read = [{"beds": [[3], [4]]}, {"beds": [[1], [2]]}]
    assert Unknown(stored, read).put_back(read) == [stored[1], stored[0]]


@pytest.mark.parametrize(("lost", "refused"), [({}, False), ({"view": "sea"}, True)])
def test_an_item_that_goes_must_have_no_unknown_field_in_its_lists(
    lost: dict[str, str], refused: bool
) -> None:
    goes, stays = {"rooms": [{"number": "1"}]}, {"rooms": [{"number": "2"}]}
    stored = [{"rooms": [{"number": "1", **lost}]}, stays]
    written = [stays, {"rooms": [{"number": "3"}]}]
    unknown = Unknown(stored, [goes, stays])
    if refused:
        with pytest.raises(UnreadableMessage, match="which would be lost"):
            unknown.put_back(written)
    else:
        assert unknown.put_back(written) == written
