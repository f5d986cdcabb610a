"""A paper whose readers come later: the application of the backfill tests.

``late_subscriber_app:make`` is the whole of it; `Paper` holds it for a test.
"""

from typing import Any

import psycopg

from boundary import Runtime
from internals import Context, Work
from saga import Event

DDL = "CREATE TABLE read (id bigint GENERATED ALWAYS AS IDENTITY, page int, topic text)"


class Printed(Event, kind="paper.printed"):
    page: int
    topic: str = "weather"


readers = Context("readers")


@readers.reacts_to(Printed, ordered_by="topic")
def read(event: Printed, work: Work) -> None:
    work.execute(
        "INSERT INTO read (page, topic) VALUES (%(page)s, %(topic)s)",
        {"page": event.page, "topic": event.topic},
    )


def make() -> Runtime:
    return Runtime(contexts=[readers])


class Paper:
    """The paper, on a test's own schema: nobody has subscribed yet."""

    def __init__(self, runtime: Any, outside: psycopg.Connection[Any]) -> None:
        self.outside = outside
        outside.execute(DDL)
        self.runtime: Runtime = runtime([], [readers])

    def publish(self, *pages: int, topic: str = "weather") -> None:
        """Publish each page in a transaction of its own."""
        for page in pages:
            with self.runtime.engine.begin() as connection:
                self.runtime.publish(connection, Printed(page=page, topic=topic))

    def answer(self) -> None:
        while self.runtime.answer("readers"):
            pass

    def read(self) -> list[int]:
        return [page for (page,) in self.outside.execute("SELECT page FROM read ORDER BY id")]

    def due(self) -> list[int]:
        """The pages that could be read now."""
        found = self.outside.execute(
            "SELECT (o.payload->>'page')::int AS page FROM inbox AS i JOIN outbox AS o "
            "ON o.id = i.message_id WHERE i.state = 'pending' AND i.due_at <= now() ORDER BY page"
        )
        return [page for (page,) in found]

    def counts(self) -> tuple[int, int]:
        """How many deliveries are backfilled, and how many are live."""
        [(past, live)] = self.outside.execute(
            "SELECT count(*) FILTER (WHERE backfill), count(*) FILTER (WHERE NOT backfill) "
            "FROM inbox"
        )
        return past, live
