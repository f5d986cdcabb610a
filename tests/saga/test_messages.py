"""Messages: a declared wire name, and a payload that comes back equal or is refused."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, ValidationError

from saga import Command, DefinitionError, Done, Event, PayloadError, Refused
from saga.json_text import dump_json


class Room(BaseModel):
    """A nested value."""

    number: str
    beds: int = 2


class Board(StrEnum):
    """A closed set of words."""

    NONE = "none"
    FULL = "full"


class BookHotel(Command, kind="hotels.book"):
    """One field of everything that people put in messages."""

    trip_id: UUID = UUID(int=1)
    guest: str = "Ada"
    price: Decimal = Decimal("120.50")
    rating: float = 4.5
    arrival: date = date(2013, 2, 8)
    booked_at: datetime = datetime(2013, 2, 1, 12, tzinfo=UTC)
    stay: timedelta = timedelta(days=2)
    rooms: tuple[Room, ...] = (Room(number="12"),)
    board: Board = Board.FULL
    notes: dict[str, str | None] = Field(default_factory=dict)
    late: float | None = None


class HotelBooked(Event, kind="hotels.booked"):
    """One optional field."""

    rooms: tuple[str, ...] = ()


def test_a_message_travels_under_its_declared_name() -> None:
    assert BookHotel.kind == "hotels.book"
    assert BookHotel().kind == "hotels.book"
    assert "kind" not in BookHotel().model_dump()


def test_a_longer_name_has_more_words() -> None:
    class Moved(Event, kind="hotels.rooms_2.moved"):
        pass

    assert Moved.kind == "hotels.rooms_2.moved"


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "book",
        "Hotels.book",
        "hotels.",
        ".book",
        "hotels..book",
        "hotels book",
        "2.x",
        "a.b\n",
        7,
    ],
)
def test_a_name_that_is_no_wire_name_is_refused(kind: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Book: kind .* must be lower-case words joined"):

        class Book(Command, kind=kind):
            pass


def test_the_frameworks_own_names_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"Finished: kinds that start with 'saga\.' are the"):

        class Finished(Event, kind="saga.done"):
            pass


def test_a_class_between_has_no_name_of_its_own() -> None:
    class HotelCommand(Command):
        trip_id: UUID

    class Cancel(HotelCommand, kind="hotels.cancel"):
        pass

    class Unnamed(BookHotel):
        pass

    assert (HotelCommand.kind, Cancel.kind, Unnamed.kind) == ("", "hotels.cancel", "")


def test_a_message_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        BookHotel().guest = "Grace"  # type: ignore[misc]


def test_a_field_that_nobody_declared_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        BookHotel(breakfast=True)  # type: ignore[call-arg]
    with pytest.raises(PayloadError, match=r"hotels\.booked: field breakfast"):
        HotelBooked.made_from_json('{"breakfast": true}')


@pytest.mark.parametrize(
    "message",
    [
        BookHotel(),
        BookHotel(guest='"\\u0000" is only text, and so is \\', notes={"a": None, "ü": "😀"}),
        BookHotel(rating=-0.0, price=Decimal("1E+400"), late=1e-308),
        HotelBooked(rooms=("12", "14")),
        Refused(reason="no rooms"),
        Done(),
    ],
    ids=lambda message: message.kind,
)
def test_a_payload_comes_back_equal(message: Command) -> None:
    assert type(message).from_json(message.to_json()) == message


@pytest.mark.parametrize("rating", [math.nan, math.inf, -math.inf])
def test_json_has_no_such_number(rating: float) -> None:
    with pytest.raises(PayloadError, match=r"hotels\.book: field rating"):
        BookHotel(rating=rating).to_json()
    with pytest.raises(PayloadError, match=r"hotels\.book: .* does not come back equal"):
        BookHotel(late=rating).to_json()


@pytest.mark.parametrize("guest", ["\0", "a\0b", "\\\0", "\\\\\0", "\\\0\\"])
def test_postgres_stores_no_nul(guest: str) -> None:
    with pytest.raises(PayloadError, match=r"hotels\.book: .* NUL"):
        BookHotel(guest=guest).to_json()


@pytest.mark.parametrize("key", ["\0", "a\0"])
def test_nor_in_a_key(key: str) -> None:
    with pytest.raises(PayloadError, match="NUL"):
        BookHotel(notes={key: ""}).to_json()


@pytest.mark.parametrize("guest", ["\\u0000", "\\\\u0000", "u0000", "\\\\\\u0000"])
def test_what_only_looks_like_a_nul_is_text(guest: str) -> None:
    message = BookHotel(guest=guest)
    assert BookHotel.from_json(message.to_json()) == message


def test_half_a_character_cannot_be_written() -> None:
    with pytest.raises(PayloadError, match=r"hotels\.book: cannot be written as JSON"):
        BookHotel.model_construct(guest="\ud800").to_json()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_what_is_not_of_its_type_cannot_be_sent() -> None:
    # `model_copy` does not validate, so this is found when it is sent at the latest.
    broken = HotelBooked().model_copy(update={"rooms": ["12"]})
    with pytest.raises(PayloadError, match=r"hotels\.booked: .* does not come back equal"):
        broken.to_json()


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "null", '{"rooms": 7}', "{"])
def test_a_payload_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match=r"hotels\.booked: field"):
        HotelBooked.from_json(text)


def test_no_payload_reaches_an_error_message() -> None:
    with pytest.raises(PayloadError) as refusal:
        HotelBooked.from_json('{"rooms": "4111 1111 1111 1111"}')
    assert "4111" not in str(refusal.value)


def test_a_sagas_data_is_held_to_the_same() -> None:
    assert dump_json(Room(number="12"), "the data") == '{"number":"12","beds":2}'
    with pytest.raises(PayloadError, match="the data: a text contains a NUL"):
        dump_json(Room(number="\0"), "the data")


@pytest.mark.filterwarnings("ignore:Field name")
def test_no_field_may_hide_the_wire_name() -> None:
    with pytest.raises(DefinitionError, match="BookRoom: a field cannot be called kind"):

        class BookRoom(Command, kind="hotels.book_room"):
            kind: str  # type: ignore[misc]


def test_a_sagas_data_must_come_back_equal_too() -> None:
    class Price(BaseModel):
        amount: float

    with pytest.raises(PayloadError, match="the data: field amount"):
        dump_json(Price(amount=math.inf), "the data")
