"""Testing: tell a saga as a story, without a database, a broker or a clock.

    given(BOOK_TRIP, trip)
        .expect(ReserveFlight(trip_id=trip.id, seats=2))
        .when(SeatingAssigned(seats=("1A", "1B")))
        .expect(BookHotel, RentCar)
        .rejected("hotel", "no rooms")
        .done("car")
        .expect(CancelCar)

A story never changes: each word returns a new one, so that two may share their beginning.
AssertionError says what is not as expected; what the saga's functions raise comes through.
"""

from saga.testing.story import Story, given

__all__ = ["Story", "given"]
