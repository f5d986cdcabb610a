"""Unknown fields: what another release put into a saga's data is put back where it was."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from saga import UnreadableMessage
from saga.json_text import dump_json, read_json
from saga.unknown_fields import Unknown


@pytest.mark.parametrize(
    ("stored", "read", "written", "put_back"),
    [
        ({"a": 1, "x": 2}, {"a": 1}, {"a": 5}, {"a": 5, "x": 2}),
        ({"a": 1}, {"a": 1, "new": None}, {"a": 1, "new": 3}, {"a": 1, "new": 3}),
        # Within another model, as long as there is one.
        ({"m": {"a": 1, "x": 2}}, {"m": {"a": 1}}, {"m": {"a": 9}}, {"m": {"a": 9, "x": 2}}),
        ({"m": {"a": 1, "x": 2}}, {"m": {"a": 1}}, {"m": None}, {"m": None}),
        ({"m": None, "x": 1}, {"m": None}, {"m": {"a": 1}}, {"m": {"a": 1}, "x": 1}),
        # What was taken out of a mapping is not unknown.
        ({"of": {"a": 1, "b": 2}}, {"of": {"a": 1, "b": 2}}, {"of": {"b": 2}}, {"of": {"b": 2}}),
    ],
)
def test_a_field_stays_where_it_was(stored: Any, read: Any, written: Any, put_back: Any) -> None:
    assert Unknown(stored, read).put_back(written) == put_back


ITEMS = [{"n": 1, "x": "a"}, {"n": 2, "x": "b"}, {"n": 3, "x": "c"}]


@pytest.mark.parametrize(
    ("written", "put_back"),
    [
        ([1, 2, 3], "abc"),
        ([3, 1, 2], "cab"),
        ([1, 2, 3, 4], "abc-"),
        ([0, 1, 2, 3], None),  # nothing is lost: each is found again
        ([2, 3], "bc"),
        ([], ""),
        ([1, 9, 3], "abc"),  # the second one was changed
        ([9, 2, 3, 4], "abc-"),
    ],
)
def test_an_item_is_found_again(written: list[int], put_back: str | None) -> None:
    unknown = Unknown(ITEMS, [{"n": item["n"]} for item in ITEMS])
    done = unknown.put_back([{"n": n} for n in written])
    assert [item["n"] for item in done] == written
    if put_back is not None:
        assert "".join(item.get("x", "-") for item in done) == put_back
    else:
        assert sorted(item["x"] for item in done if "x" in item) == ["a", "b", "c"]


@pytest.mark.parametrize("written", [[2, 3, 4], [3, 9, 8], [8, 1]])
def test_where_nobody_can_say_it_is_left_to_who_knows_them(written: list[int]) -> None:
    unknown = Unknown({"parts": ITEMS}, {"parts": [{"n": item["n"]} for item in ITEMS]})
    with pytest.raises(UnreadableMessage, match=r"data\.parts has fields that this release does"):
        unknown.put_back({"parts": [{"n": n} for n in written]})


def test_items_without_unknown_fields_may_change_as_they_like() -> None:
    unknown = Unknown([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}])
    assert unknown.put_back([{"n": 2}, {"n": 3}]) == [{"n": 2}, {"n": 3}]


class Newer(BaseModel, frozen=True):
    colour: str
    n: int


class Older(BaseModel, frozen=True):
    n: int


class NewerData(BaseModel):
    parts: frozenset[Newer]


class OlderData(BaseModel):
    parts: frozenset[Older]
    total: int = 0


def test_what_is_in_a_set_keeps_its_own() -> None:
    """A set is written in the order of its text, which a new field changes."""
    stored = dump_json(NewerData(parts={Newer(colour="a", n=2), Newer(colour="b", n=1)}), "data")
    read = read_json(OlderData, stored)
    unknown = Unknown(json.loads(stored), json.loads(dump_json(read, "data")))
    written = unknown.put_back(json.loads(dump_json(OlderData(parts=read.parts, total=3), "data")))
    assert {(part["n"], part["colour"]) for part in written["parts"]} == {(2, "a"), (1, "b")}
    assert written["total"] == 3


@pytest.mark.parametrize(
    ("read", "put_back"),
    [
        ([3, 1, 2], {1: "a", 2: "b", 3: "c"}),  # a validator sorted them
        ([1, 2, 30], {1: "a", 2: "b", 30: "c"}),  # or changed one
        ([30, 1, 2], {1: "a", 2: "b", 30: "c"}),
        ([10, 20, 30], {10: "a", 20: "b", 30: "c"}),
    ],
)
def test_an_item_is_known_by_what_was_read_of_it(read: list[int], put_back: Any) -> None:
    items = [{"n": n} for n in read]
    assert {item["n"]: item["x"] for item in Unknown(ITEMS, items).put_back(items)} == put_back
