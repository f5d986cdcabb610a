"""JSON text of values within values: sets are ordered in each, and what shrinks is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, RootModel, field_serializer

from saga import PayloadError
from saga.json_text import dump_json, same


class Tags(RootModel[set[str]]):
    """A set alone."""


@dataclass
class Crate:
    marks: frozenset[str] = field(default_factory=frozenset)


class Load(BaseModel):
    tags: Tags = Tags(set())
    crate: Crate = Crate()


class Shrinking(BaseModel):
    """Its serializers leave out the last item, so it cannot come back as it was."""

    listed: list[set[str]] = []
    named: dict[str, set[str]] = {}

    @field_serializer("listed")
    def _leave_out(self, listed: list[set[str]]) -> list[set[str]]:
        return listed[:-1]

    @field_serializer("named")
    def _leave_out_too(self, named: dict[str, set[str]]) -> Mapping[str, set[str]]:
        return dict(list(named.items())[:-1])


def test_sets_in_root_models_and_dataclasses_are_ordered() -> None:
    letters = set("qwertyuiop")
    text = dump_json(Load(tags=Tags(letters), crate=Crate(frozenset(letters))), "the load")
    inorder = ",".join(f'"{letter}"' for letter in sorted(letters))
    assert text == f'{{"tags":[{inorder}],"crate":{{"marks":[{inorder}]}}}}'


@pytest.mark.parametrize("shrinking", [{"listed": [{"a"}]}, {"named": {"a": {"b"}}}])
def test_what_loses_an_item_is_refused(shrinking: Any) -> None:
    with pytest.raises(PayloadError):
        dump_json(Shrinking(**shrinking), "the data")


class Touchy:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare")

    __hash__ = None  # type: ignore[assignment]


def test_what_cannot_be_compared_is_not_the_same() -> None:
    assert not same(Touchy(), Touchy())
