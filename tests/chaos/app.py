"""The harness's application: its saga and contexts, and a runtime for them."""

import os

from sqlalchemy import Engine

from boundary import Runtime, Settings
from tests.chaos.booking import CHAOS_TRIP
from tests.chaos.calling import PARTNER, bank, insurers
from tests.chaos.charging import GATEWAY, payments
from tests.chaos.contexts import cars, documents, flights, hotels, loyalty, rooms, seating
from tests.chaos.partners import move_out
from tests.chaos.plan import PARTNERS, Plan
from tests.chaos.tour import CHAOS_TOUR, vouchers

CONTEXTS = (
    flights,
    seating,
    hotels,
    rooms,
    cars,
    payments,
    documents,
    loyalty,
    bank,
    insurers,
    vouchers,
)

#: Every step of the saga and every reaction to one that leaves an effect in the ledger.
STEPS = ("flight", "seating", "hotel", "room", "car", "payment", "documents", "miles")


def build_runtime(settings: Settings, engine: Engine | None = None) -> Runtime:
    """Return a runtime that finds the ledger's tables beside the framework's own."""
    move_out(out=PARTNERS in settings.databases)
    return Runtime(
        sagas=[CHAOS_TRIP, CHAOS_TOUR], contexts=CONTEXTS, settings=settings, engine=engine
    )


def runtime_of(plan: Plan, engine: Engine | None = None) -> Runtime:
    """Return the runtime of a process that takes part in a run."""
    os.environ[GATEWAY] = plan.gateway_url
    os.environ[PARTNER] = plan.partner_url
    return build_runtime(plan.settings, engine)
