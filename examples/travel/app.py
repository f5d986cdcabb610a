"""The travel agent's composition root: its saga and contexts on the configured servers."""

import os

from boundary import Runtime, Settings
from examples.travel.aftercare import aftercare
from examples.travel.booking import BOOK_TRIP
from examples.travel.contexts import ALL_CONTEXTS
from examples.travel.contexts.schema import SCHEMA
from examples.travel.disruption import REBOOK_TRIP


def build_runtime(settings: Settings | None = None, schema: str | None = None) -> Runtime:
    """Return the travel agent's runtime.

    Args:
        settings: Read from the environment if not given.
        schema: Postgres schema of the contexts' tables; ``TRAVEL_SCHEMA``, or ``travel``, if
            not given.
    """
    schema = schema or os.environ.get("TRAVEL_SCHEMA", SCHEMA)

    return Runtime(
        sagas=[BOOK_TRIP, REBOOK_TRIP],
        contexts=[*ALL_CONTEXTS, aftercare],
        settings=settings,
        execution_options={"schema_translate_map": {SCHEMA: schema}},
    )
