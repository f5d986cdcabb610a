"""A command that runs as Ann, and parcels to act on."""

from collections.abc import Callable

import pytest

from boundary import Runtime
from tests.boundary.cli.parcels import Parcels
from tests.boundary.worlds import waiting_app
from tests.boundary.worlds.command_line import Ran


@pytest.fixture
def act(call: Callable[..., Ran]) -> Callable[..., Ran]:
    """Run a command of the shop's, as Ann."""

    def run(*arguments: str, **changes: str) -> Ran:
        return call(*arguments, **({"SAGA_APP": "shop:make", "SAGA_ACTOR": "ann"} | changes))

    return run


@pytest.fixture
def parcels(runtime: Callable[..., Runtime]) -> "Parcels":
    made = runtime([waiting_app.PARCEL], [waiting_app.van])
    made.subscribe()
    return Parcels(made)
