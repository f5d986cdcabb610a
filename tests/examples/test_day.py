"""Reading a day: what is in the file, and one clear sentence for each way it can be wrong."""

import datetime as dt
from pathlib import Path

import pytest

from examples.travel.day import USUAL_SEATS, FlightsFileError, read_day

HEADER = "year,month,day,dep_time,sched_dep_time,carrier,flight,tailnum,origin,dest,distance"
FIRST = "2013,2,8,458,500,US,1117,N1,EWR,CLT,529"
SECOND = "2013,2,8,NA,2359,UA,7,N2,JFK,IAH,1400"
PLANES = "tailnum,seats\nN1,182\nN2,20\n"


def write(folder: Path, *lines: str, planes: str = PLANES) -> tuple[Path, Path]:
    """Write both files."""
    flights_file, planes_file = folder / "flights.csv", folder / "planes.csv"
    flights_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    planes_file.write_text(planes, encoding="utf-8")
    return flights_file, planes_file


def complaint(folder: Path, *lines: str, planes: str = PLANES) -> str:
    """Return what is said of these files, without the folder's name."""
    with pytest.raises(FlightsFileError) as caught:
        read_day(*write(folder, *lines, planes=planes))
    return str(caught.value).replace(f"{folder}/", "")


def test_the_shipped_day_is_the_real_one() -> None:
    day = read_day()
    assert day.date == dt.date(2013, 2, 8)
    assert len(day.flights) == 930
    assert sum(flight.cancelled for flight in day.flights) == 472
    first = day.flights[1]
    assert first.number == "UA1018-EWR-IAH-0525"
    assert (first.carrier, first.origin, first.destination) == ("UA", "EWR", "IAH")
    assert first.departs == dt.datetime(2013, 2, 8, 5, 25)
    assert (first.distance, first.seats, first.cancelled) == (1400, 149, False)


def test_cancelled_is_what_never_departed(tmp_path: Path) -> None:
    day = read_day(*write(tmp_path, HEADER, FIRST, SECOND))
    assert [flight.cancelled for flight in day.flights] == [False, True]
    assert day.seats_arriving() == {"CLT": 182}


def test_an_unknown_aircraft_has_the_median_of_the_others(tmp_path: Path) -> None:
    unknown = FIRST.replace("1117,N1", "3,NA")
    day = read_day(*write(tmp_path, HEADER, FIRST, SECOND, unknown))
    assert [flight.seats for flight in day.flights] == [182, 20, 101]


def test_without_any_known_aircraft_they_are_usual_ones(tmp_path: Path) -> None:
    day = read_day(*write(tmp_path, HEADER, FIRST, planes="tailnum,seats\n"))
    assert day.flights[0].seats == USUAL_SEATS


def test_columns_in_any_order_a_mark_and_blank_lines_are_fine(tmp_path: Path) -> None:
    lines = [",".join(reversed(line.split(","))) for line in (HEADER, FIRST)]
    files = write(tmp_path, "\ufeff" + lines[0], "", f"{lines[1]}\r", "")
    assert read_day(*files).flights[0].number == "US1117-EWR-CLT-0500"


def test_a_departure_at_midnight_is_written_2400(tmp_path: Path) -> None:
    day = read_day(*write(tmp_path, HEADER, FIRST.replace("458,500", "2400,2359")))
    assert day.flights[0].departs == dt.datetime(2013, 2, 8, 23, 59)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2013,2", "x,2", "column year: expected an integer, found 'x'."),
        ("2013,2", "0,2", "column year: expected a year from 1 to 9999, found '0'."),
        ("2013,2", "2013,13", "column month: expected a month from 1 to 12, found '13'."),
        ("2,8,", "2,30,", "column day: expected a day of 2013-02, found '30'."),
        ("500", "", "column sched_dep_time: expected a value, found ''."),
        ("500", "NA", "column sched_dep_time: expected an integer, found 'NA'."),
        ("500", "5.0", "column sched_dep_time: expected an integer, found '5.0'."),
        ("500", "-500", "column sched_dep_time: expected an integer, found '-500'."),
        (
            "500",
            "575",
            "column sched_dep_time: expected a time as HHMM with minutes from 00 to 59, "
            "found '575'.",
        ),
        (
            "500",
            "2400",
            "column sched_dep_time: expected a time as HHMM with hours from 00 to 23, "
            "found '2400'.",
        ),
        (
            "458",
            "2401",
            "column dep_time: expected a time as HHMM with hours from 00 to 24, found '2401'.",
        ),
        ("458", "late", "column dep_time: expected an integer, found 'late'."),
        ("US", "usa", "column carrier: expected an airline's code of two characters, found 'usa'."),
        ("1117", "0", "column flight: expected an integer of 1 or more, found '0'."),
        ("1117", "1" * 10, "column flight: expected an integer, found '1111111111'."),
        ("EWR", "E", "column origin: expected an airport's code of three characters, found 'E'."),
        ("CLT", "NA", "column dest: expected an airport's code of three characters, found 'NA'."),
        ("529", "far", "column distance: expected an integer, found 'far'."),
        ("529", "\u0665", "column distance: expected an integer, found '\u0665'."),
        ("529", "\x1b[31m", r"column distance: expected an integer, found '\x1b[31m'."),
        ("529", "9" * 99, f"column distance: expected an integer, found '{'9' * 40}…'."),
    ],
)
def test_a_wrong_value_is_named_with_its_column(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    wrong = FIRST.replace(old, new, 1)
    assert complaint(tmp_path, HEADER, SECOND, wrong) == f"flights.csv, line 3, {said}"


@pytest.mark.parametrize(
    ("date", "column", "found"),
    [("2014,2,8", "year", "2014"), ("2013,3,8", "month", "3"), ("2013,2,9", "day", "9")],
)
def test_a_flight_of_another_day(tmp_path: Path, date: str, column: str, found: str) -> None:
    assert complaint(tmp_path, HEADER, FIRST, SECOND.replace("2013,2,8", date)) == (
        f"flights.csv, line 3, column {column}: expected the same day on every line, 2013-02-08 "
        f"as in the first, found '{found}'."
    )


def test_a_flight_that_is_there_twice(tmp_path: Path) -> None:
    assert complaint(tmp_path, HEADER, FIRST, SECOND, FIRST) == (
        "flights.csv, line 4, column flight: expected each flight once, and US1117-EWR-CLT-0500 "
        "is on line 2 already, found '1117'."
    )


def test_a_column_that_is_missing(tmp_path: Path) -> None:
    header = HEADER.replace("dest", "to")
    assert complaint(tmp_path, header, FIRST) == (
        "flights.csv, line 1, column dest: expected one column of this name in the header, "
        f"found none in '{header}'."
    )


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    header = HEADER + ",dest"
    assert complaint(tmp_path, header, FIRST + ",CLT") == (
        "flights.csv, line 1, column dest: expected one column of this name in the header, "
        f"found it more than once in '{header}'."
    )


@pytest.mark.parametrize(("line", "count"), [(FIRST + ",x", 12), (FIRST[:-4], 10)])
def test_a_line_with_another_number_of_fields(tmp_path: Path, line: str, count: int) -> None:
    column = "distance" if count > 11 else "dest"
    assert complaint(tmp_path, HEADER, line) == (
        f"flights.csv, line 2, column {column}: expected 11 fields as in the header, found {count}."
    )


def test_no_flights_at_all(tmp_path: Path) -> None:
    assert complaint(tmp_path, HEADER) == (
        "flights.csv, line 2: expected a flight on each line after the header, "
        "found no flights at all."
    )


def test_an_empty_file(tmp_path: Path) -> None:
    expected = HEADER.replace(",", ", ")
    assert complaint(tmp_path) == (
        f"flights.csv, line 1: expected a header with the columns {expected}, found an empty file."
    )


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    flights, planes = write(tmp_path, HEADER)
    flights.write_bytes(f"{HEADER}\n{FIRST}\n".encode() + b"caf\xe9\n")
    with pytest.raises(FlightsFileError, match=r"line 3: expected text in UTF-8, found the byte"):
        read_day(flights, planes)


def test_a_quote_that_never_ends(tmp_path: Path) -> None:
    said = complaint(tmp_path, HEADER, '"' + FIRST)
    assert said.startswith("flights.csv, line 2: expected comma-separated values, found: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FlightsFileError, match=r"readable file, found no such file or directory"):
        read_day(tmp_path / "none.csv")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(FlightsFileError, match=r"readable file, found a directory\.$"):
        read_day(tmp_path)


def test_wrong_aircraft(tmp_path: Path) -> None:
    assert complaint(tmp_path, HEADER, FIRST, planes="tailnum,seats\nN1,NA\n") == (
        "planes.csv, line 2, column seats: expected an integer, found 'NA'."
    )
