"""Standstill: how long a saga did not move while others were frozen or hung.

No trip of the harness has a reason to wait, so each gap in a saga's history is a standstill: of the
one whose delivery was struck, or of an innocent that was held up by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from examples.travel.checks import Check

#: Seconds that anybody may stand still.  The bounds that the profile sets are two seconds, and who
#: is frozen stays so for much longer than this.  A suspect has a lease of up to 45 s, which nobody
#: cuts short if its worker is frozen; the rest is for a slow machine.
BOUND = 75.0

# The time from one message that a saga consumed to the next, the longest first.
_GAPS = """
SELECT key, seconds, kind, extract(epoch FROM clock_timestamp() - since)::float AS ago FROM (
    SELECT g.key, o.kind, i.done_at AS since,
           extract(epoch FROM lead(i.done_at) OVER of_saga - i.done_at)::float AS seconds
    FROM {schema}.inbox AS i
    JOIN {schema}.saga AS g ON g.id = i.saga_id AND i.consumer = 'saga.' || g.name
    JOIN {schema}.outbox AS o ON o.id = i.message_id
    WHERE i.position IS NOT NULL AND g.id = ANY (:ids)
    WINDOW of_saga AS (PARTITION BY g.id ORDER BY i.position)
) AS gap
WHERE seconds IS NOT NULL ORDER BY seconds DESC LIMIT 3
"""


@dataclass(frozen=True, slots=True)
class Standstill:
    """A saga that did not move."""

    key: str
    seconds: float
    #: What it had consumed before.
    after: str
    #: Seconds ago, when it began.
    ago: float


def longest(connection: Connection, schema: str, ids: Sequence[UUID]) -> list[Standstill]:
    """Return the longest standstills of these sagas, the longest first."""
    rows = connection.execute(text(_GAPS.format(schema=schema)), {"ids": list(ids)})
    return [Standstill(row.key, row.seconds, row.kind, row.ago) for row in rows]


def judge_standstill(
    found: Sequence[Standstill], longest_call: float, at_once: Callable[[Standstill], list[str]]
) -> Check:
    """Hold the longest standstill, and the host's longest call, against the bound.

    Args:
        found: The longest standstills.
        longest_call: Seconds of the longest call that the host made.
        at_once: Tells who was frozen meanwhile.
    """
    told = [
        f"{each.key} stood still for {each.seconds:.1f} s after {each.after}, while there was "
        f"{', '.join(at_once(each)) or 'nobody frozen'}"
        for each in found
        if each.seconds > BOUND
    ]
    if longest_call > BOUND:
        told.append(f"a host's call took {longest_call:.1f} s")
    measured = max((each.seconds for each in found), default=0.0)
    return Check(
        "nobody_stands_still",
        not told,
        "; ".join(told) or f"{measured:.1f} s at most, and {longest_call:.1f} s in a host's call",
    )
