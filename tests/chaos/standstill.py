"""Standstill: how long a saga did not move while others were frozen or hung.

No trip of the harness has a reason to wait, so each gap in a saga's history is a standstill: of the
one whose delivery was struck, or of an innocent that was held up by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from examples.travel.checks import Check

#: Seconds that anybody may stand still.  The bounds that the profile sets are two seconds, and the
#: first who are frozen stay so for much longer than this.  A suspect has a lease of up to 7.5 s, a
#: charge one of 15, which nobody cuts short if its worker is frozen; the rest is for a slow machine
#: on which a dozen workers freeze one after the other with the same rows locked.
BOUND = 75.0

# The time from one message that a saga consumed to the next, the longest first.
_GAPS = """
SELECT key, seconds, kind, extract(epoch FROM clock_timestamp() - since)::float AS ago, (
    SELECT string_agg(
        concat_ws(
            ' ', d.consumer || ':', o.kind,
            'sent', round(extract(epoch FROM o.sent_at - since), 1),
            'claimed', round(extract(epoch FROM d.claimed_at - since), 1),
            'done', round(extract(epoch FROM d.done_at - since), 1),
            'attempts', d.attempts, 'rings', d.rings, 'yields', d.yields, d.last_error
        ), ', ' ORDER BY d.done_at
    )
    FROM {schema}.inbox AS d JOIN {schema}.outbox AS o ON o.id = d.message_id
    WHERE d.saga_id = gap.id AND d.position IS NULL
      AND d.done_at BETWEEN since AND since + seconds * interval '1 second'
) AS meanwhile
FROM (
    SELECT g.id, g.key, o.kind, i.done_at AS since,
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
    #: Its deliveries that were done in that time, in seconds since it began.
    meanwhile: str | None = None

    def __str__(self) -> str:
        return f"{self.key} for {self.seconds:.1f} s after {self.after} ({self.meanwhile})"


def longest(connection: Connection, schema: str, ids: Sequence[UUID]) -> list[Standstill]:
    """Return the longest standstills of these sagas, the longest first."""
    rows = connection.execute(text(_GAPS.format(schema=schema)), {"ids": list(ids)})
    return [Standstill(row.key, row.seconds, row.kind, row.ago, row.meanwhile) for row in rows]


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
        f"{each} stood still, while there was {', '.join(at_once(each)) or 'nobody frozen'}"
        for each in found
        if each.seconds > BOUND
    ]
    if longest_call > BOUND:
        told.append(f"a host's call took {longest_call:.1f} s")
    measured = max(found, key=lambda each: each.seconds, default="nobody")
    return Check(
        "nobody_stands_still",
        not told,
        "; ".join(told) or f"{longest_call:.1f} s at most in a host's call; {measured}",
    )
