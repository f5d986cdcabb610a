"""Day: the flights of one day, read from a file in the format of nycflights13.

The file is the user's own, so whatever is wrong with it is told in one sentence that names file,
line and column, what was expected there and what was found.
"""

import csv
import datetime as dt
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NoReturn

_DATA = Path(__file__).parent / "data"
#: The day that is shipped: New York, 8 February 2013, when a blizzard cancelled half the flights.
FLIGHTS_FILE = _DATA / "flights-2013-02-08.csv"
#: Aircraft by tail number.
PLANES_FILE = _DATA / "planes.csv"
#: Seats of an aircraft when not one tail number of the day is known.
USUAL_SEATS = 150

_FLIGHT_COLUMNS = (
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
)
_PLANE_COLUMNS = ("tailnum", "seats")
_UNKNOWN = "NA"
_INTEGER = re.compile(r"[0-9]{1,9}")
_CARRIER = re.compile(r"[A-Z0-9]{2}")
_AIRPORT = re.compile(r"[A-Z0-9]{3}")


class FlightsFileError(Exception):
    """The file of flights, or that of aircraft, cannot be used; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One scheduled departure."""

    #: Unique within the day and the same whenever the file is read: UA1018-EWR-IAH-0525.
    number: str
    carrier: str
    origin: str
    destination: str
    #: Scheduled, local time of the origin.
    departs: dt.datetime
    #: Miles.
    distance: int
    #: It never left that day.
    cancelled: bool
    #: Those of the aircraft that was to fly.
    seats: int


@dataclass(frozen=True, slots=True)
class Day:
    """All departures of one day, in the order of the file."""

    date: dt.date
    flights: tuple[Flight, ...]

    def seats_arriving(self) -> dict[str, int]:
        """Return the seats that arrive at each destination on flights that were not cancelled."""
        seats: defaultdict[str, int] = defaultdict(int)
        for flight in self.flights:
            if not flight.cancelled:
                seats[flight.destination] += flight.seats
        return dict(seats)


def read_day(flights: Path = FLIGHTS_FILE, planes: Path = PLANES_FILE) -> Day:
    """Read the flights of a day and the seats of the aircraft that fly them.

    An aircraft that is not in `planes` is given the median seats of those that are and fly that
    day: unknown ones are of ordinary size.  Raises `FlightsFileError`.
    """
    known = {row.text("tailnum"): row.positive("seats") for row in _rows(planes, _PLANE_COLUMNS)}
    rows = list(_rows(flights, _FLIGHT_COLUMNS))
    if not rows:
        raise FlightsFileError(
            f"{flights}, line 2: expected a flight on each line after the header, "
            "found no flights at all."
        )
    date = _date(rows[0])
    usual = int(median(_seats_flown(rows, known) or [USUAL_SEATS]))
    seen: dict[str, int] = {}
    result: list[Flight] = []
    for row in rows:
        flight = _flight(row, date, known, usual)
        if flight.number in seen:
            row.fail(
                "flight",
                f"each flight once, and {flight.number} is on line {seen[flight.number]} already",
            )
        seen[flight.number] = row.line
        result.append(flight)
    return Day(date, tuple(result))


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file, with what is needed to tell what is wrong with it."""

    file: Path
    line: int
    values: Mapping[str, str]

    def text(self, column: str) -> str:
        value = self.values[column].strip()
        return value or self.fail(column, "a value")

    def matching(self, column: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.text(column)
        return value if pattern.fullmatch(value) else self.fail(column, expected)

    def integer(self, column: str) -> int:
        return int(self.matching(column, _INTEGER, "an integer"))

    def positive(self, column: str) -> int:
        return self.integer(column) or self.fail(column, "an integer of 1 or more")

    def time(self, column: str, last_hour: int = 23) -> dt.timedelta:
        hour, minute = divmod(self.integer(column), 100)
        if minute > 59:
            self.fail(column, "a time as HHMM with minutes from 00 to 59")
        if hour > last_hour or (hour == 24 and minute):
            self.fail(column, f"a time as HHMM with hours from 00 to {last_hour}")
        return dt.timedelta(hours=hour, minutes=minute)

    def fail(self, column: str, expected: str) -> NoReturn:
        raise FlightsFileError(
            f"{self.file}, line {self.line}, column {column}: "
            f"expected {expected}, found {_shown(self.values[column])}."
        )


def _flight(row: _Row, date: dt.date, known: Mapping[str, int], usual: int) -> Flight:
    found = _date(row)
    for column in ("year", "month", "day"):
        if getattr(found, column) != getattr(date, column):
            row.fail(column, f"the same day on every line, {date} as in the first")
    departs = row.time("sched_dep_time")
    cancelled = row.text("dep_time") == _UNKNOWN
    if not cancelled:
        row.time("dep_time", last_hour=24)  # the source writes midnight as 2400
    carrier = row.matching("carrier", _CARRIER, "an airline's code of two characters")
    origin = row.matching("origin", _AIRPORT, "an airport's code of three characters")
    destination = row.matching("dest", _AIRPORT, "an airport's code of three characters")
    scheduled = dt.datetime.combine(date, dt.time()) + departs
    return Flight(
        number=f"{carrier}{row.positive('flight')}-{origin}-{destination}-{scheduled:%H%M}",
        carrier=carrier,
        origin=origin,
        destination=destination,
        departs=scheduled,
        distance=row.positive("distance"),
        cancelled=cancelled,
        seats=known.get(row.text("tailnum"), usual),
    )


def _seats_flown(rows: list[_Row], known: Mapping[str, int]) -> list[int]:
    tails = (row.text("tailnum") for row in rows)
    return [known[tail] for tail in tails if tail in known]


def _date(row: _Row) -> dt.date:
    year, month, day = (row.integer(column) for column in ("year", "month", "day"))
    if not 1 <= month <= 12:
        row.fail("month", "a month from 1 to 12")
    if not dt.MINYEAR <= year <= dt.MAXYEAR:
        row.fail("year", f"a year from {dt.MINYEAR} to {dt.MAXYEAR}")
    try:
        return dt.date(year, month, day)
    except ValueError:
        row.fail("day", f"a day of {year}-{month:02}")


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[_Row]:
    """Yield the lines after the header; blank ones are passed over."""
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    header: list[str] | None = None
    try:
        for values in reader:
            if not values:
                continue
            if header is None:
                header = _header(file, values, columns)
                continue
            if len(values) != len(header):
                last = header[min(len(values), len(header)) - 1]
                raise FlightsFileError(
                    f"{file}, line {reader.line_num}, column {last}: expected {len(header)} "
                    f"fields as in the header, found {len(values)}."
                )
            yield _Row(file, reader.line_num, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise FlightsFileError(
            f"{file}, line {reader.line_num}: expected comma-separated values, found: {error}."
        ) from error
    if header is None:
        raise FlightsFileError(
            f"{file}, line 1: expected a header with the columns {', '.join(columns)}, "
            "found an empty file."
        )


def _header(file: Path, values: list[str], columns: tuple[str, ...]) -> list[str]:
    header = [value.strip() for value in values]
    for column in columns:
        if header.count(column) != 1:
            found = "none" if column not in header else "it more than once"
            raise FlightsFileError(
                f"{file}, line 1, column {column}: expected one column of this name in the "
                f"header, found {found} in {_shown(','.join(header), 200)}."
            )
    return header


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        what = "a directory" if file.is_dir() else (error.strerror or str(error)).lower()
        raise FlightsFileError(f"{file}: expected a readable file, found {what}.") from error
    try:
        return content.decode("utf-8-sig")  # spreadsheets write the mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FlightsFileError(
            f"{file}, line {line}: expected text in UTF-8, "
            f"found the byte 0x{content[error.start]:02x}."
        ) from error


def _shown(value: str, length: int = 40) -> str:
    """Quote what a file says, so that it stays on one line and cannot disturb a terminal."""
    return repr(value if len(value) <= length else value[:length] + "…")
