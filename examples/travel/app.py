"""The travel agent's composition root: its saga and contexts on the configured servers."""

import os
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from boundary import Runtime, Settings
from examples.travel.aftercare import aftercare
from examples.travel.booking import BOOK_TRIP
from examples.travel.contexts import ALL_CONTEXTS
from examples.travel.contexts.schema import SCHEMA
from examples.travel.disruption import REBOOK_TRIP, Disruption
from saga import Saga


def build_runtime(settings: Settings | None = None, schema: str | None = None) -> Runtime:
    """Return the travel agent's runtime.

    Args:
        settings: Read from the environment if not given.
        schema: Postgres schema of the contexts' tables; ``TRAVEL_SCHEMA``, or ``travel``, if
            not given.
    """
    schema = schema or os.environ.get("TRAVEL_SCHEMA", SCHEMA)

    def start_many(
        connection: Connection, saga: Saga[Disruption], items: Sequence[Disruption]
    ) -> Sequence[UUID]:
        return runtime.start_many(connection, saga, items)

    runtime = Runtime(
        sagas=[BOOK_TRIP, REBOOK_TRIP],
        # It starts sagas, and so needs the runtime that it is a part of.
        contexts=[*ALL_CONTEXTS, aftercare(start_many)],
        settings=settings,
        execution_options={"schema_translate_map": {SCHEMA: schema}},
    )
    return runtime
