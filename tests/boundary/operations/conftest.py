"""A paper to subscribe to, and a shop to examine."""

from collections.abc import Callable
from typing import Any

import pytest

from boundary import Runtime
from boundary.operations.doctor import Finding, diagnose
from tests.boundary.worlds import shop
from tests.boundary.worlds.late_subscriber_app import Paper


@pytest.fixture
def paper(runtime: Any, outside: Any) -> Paper:
    return Paper(runtime, outside)


@pytest.fixture
def system(runtime: Callable[..., Runtime]) -> Runtime:
    """A shop that has recorded its subscriptions."""
    made = runtime(shop.SAGAS, shop.CONTEXTS)
    made.subscribe()
    return made


@pytest.fixture
def findings(system: Runtime) -> Callable[..., dict[str, Finding]]:
    """Examine the shop: check to finding."""

    def examine(application: bool = True, of: Runtime | None = None) -> dict[str, Finding]:
        return {f.check: f for f in diagnose(of or system, application=application)}

    return examine
