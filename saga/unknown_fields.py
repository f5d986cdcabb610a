"""Unknown fields: what another release put into data or a message, and this one must not lose.

A worker of an older release reads the data without them, and changes what it knows.  When the data
is stored, they are put back where they were.
"""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from saga.errors import PayloadError, UnreadableMessage
from saga.json_text import check_storable, compact
from saga.messages import Message


@dataclass(frozen=True, slots=True)
class Unknown:
    """Data as it is stored, and as this release would write what it read of it: JSON trees."""

    stored: Any
    read: Any

    def put_back(self, written: Any) -> Any:
        """Return what is to be stored of `written`, which followed from what was read.

        Raises `UnreadableMessage` where nobody can say to which item of a list they belong.
        """
        return _merged(self.stored, self.read, written, "data")


def written_as_it_came(message: Message, text: str | bytes) -> str:
    """Return what is to be stored of a message that was read from this text, by any release.

    Fields that this release does not know are kept: one that comes after may.  Raises `PayloadError`
    for what cannot be stored.
    """
    written = message.to_json()
    try:
        type(message).model_validate_json(text, extra="forbid", by_alias=True, by_name=True)
    except ValidationError:
        pass
    else:
        return written  # there are none
    try:
        read = json.loads(written)
        whole = compact(Unknown(json.loads(text), read).put_back(read))
        whole.encode()
    except (ValueError, RecursionError) as error:  # NaN, half a character, or what no end is of
        raise PayloadError(f"{message.kind}: cannot be kept as it came") from error
    check_storable(whole, message.kind)
    return whole


def _merged(stored: Any, read: Any, written: Any, where: str) -> Any:
    if isinstance(stored, dict) and isinstance(read, dict) and isinstance(written, dict):
        merged = {
            name: _merged(stored[name], read[name], value, f"{where}.{name}")
            if name in stored and name in read
            else value
            for name, value in written.items()
        }
        lost = {name: v for name, v in stored.items() if name not in read and name not in written}
        return {**merged, **lost}
    if isinstance(stored, list) and isinstance(read, list) and isinstance(written, list):
        return _merged_items(stored, read, written, where)
    return written


def _merged_items(stored: list[Any], read: list[Any], written: list[Any], where: str) -> list[Any]:
    """Find each item again: one that is equal, or the one at its place."""
    if len(stored) != len(read):
        return written  # a validator has made another list of it
    stored = _as_read(stored, read)
    free = list(range(len(read)))
    found: dict[int, int] = {}
    for place, item in enumerate(written):
        same = next((old for old in free if read[old] == item), None)
        if same is not None:
            found[place] = same
            free.remove(same)
    for place in range(len(written)):
        if place not in found and place in free:
            found[place] = place
            free.remove(place)
    new = len(written) - len(found)
    if new and any(_has_more(stored[old], read[old]) for old in free):
        raise UnreadableMessage(
            f"{where} has fields that this release does not know, and which would be lost"
        )
    return [
        _merged(stored[found[place]], read[found[place]], item, f"{where}.{place}")
        if place in found
        else item
        for place, item in enumerate(written)
    ]


def _as_read(stored: list[Any], read: list[Any]) -> list[Any]:
    """Return the stored items in the order in which they were read.

    A set is written in the order of its items' text, which fields of another release take part in; and
    a validator may sort a list.  An item that is written otherwise than it was read keeps its place.
    """
    misplaced = [place for place in range(len(read)) if not _fits(stored[place], read[place])]
    free, found = list(misplaced), {}
    for place in misplaced:
        old = next((old for old in free if _fits(stored[old], read[place])), None)
        if old is not None:
            found[place] = old
            free.remove(old)
    # What fits nowhere takes what is left, its own place first.
    rest = [place for place in misplaced if place not in found]
    for place in [p for p in rest if p in free]:
        found[place] = place
        free.remove(place)
    found.update(zip([place for place in rest if place not in found], free, strict=True))
    return [stored[found.get(place, place)] for place in range(len(read))]


def _fits(stored: Any, read: Any) -> bool:
    """Whether this was read of what is stored."""
    if isinstance(stored, dict) and isinstance(read, dict):
        return all(name not in stored or _fits(stored[name], v) for name, v in read.items())
    if isinstance(stored, list) and isinstance(read, list):
        return len(stored) == len(read) and all(map(_fits, stored, read))
    return bool(stored == read)


def _has_more(stored: Any, read: Any) -> bool:
    """Whether there are unknown fields anywhere within."""
    if isinstance(stored, dict) and isinstance(read, dict):
        return any(name not in read or _has_more(v, read[name]) for name, v in stored.items())
    if isinstance(stored, list) and isinstance(read, list) and len(stored) == len(read):
        return any(map(_has_more, stored, read))
    return False
