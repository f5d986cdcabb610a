"""Records: rows as one JSON text."""

import json
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internals.store.json_rows import Raw, records

ID = UUID(int=7)


def test_each_value_reads_as_what_it_was() -> None:
    row: dict[str, Any] = {
        "id": ID,
        "n": -3,
        "wait": 0.5,
        "final": True,
        "text": 'a "b"\\\n',
        "none": None,
    }
    assert json.loads(records([row, {"id": ID}])) == [
        {"id": ID.hex, "n": -3, "wait": 0.5, "final": True, "text": 'a "b"\\\n'},
        {"id": ID.hex},
    ]


class Kind(UUID):
    """An id that is also something else."""


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    SMALL = 3


def test_a_value_of_a_subclass_is_written_as_its_base() -> None:
    row: dict[str, Any] = {"id": Kind(int=7), "text": Colour.RED, "n": Size.SMALL}
    assert json.loads(records([row])) == [{"id": ID.hex, "text": "red", "n": 3}]


def test_what_is_json_already_goes_in_as_it_is() -> None:
    assert records([{"payload": Raw('{"a": [1]}')}]) == '[{"payload":{"a": [1]}}]'


def test_no_rows_are_an_empty_array() -> None:
    assert records([]) == "[]"


@given(st.lists(st.text()))
def test_no_text_can_break_out_of_its_place(texts: list[str]) -> None:
    assert [row["t"] for row in json.loads(records({"t": text} for text in texts))] == texts


def test_a_value_that_has_no_place_in_json_is_refused() -> None:
    with pytest.raises(KeyError):
        records([{"when": object()}])  # type: ignore[dict-item]
