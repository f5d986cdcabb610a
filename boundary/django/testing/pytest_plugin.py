"""Pytest fixtures: ``pytest_plugins = ["boundary.django.testing.pytest_plugin"]`` in a conftest.

They work in any test that may use the database, such as one with pytest-django's ``db``.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from boundary.django.testing import advance, run_due


@pytest.fixture
def saga_run_due() -> Callable[[], int]:
    """`boundary.django.testing.run_due`."""
    return run_due


@pytest.fixture
def saga_advance() -> Callable[[timedelta], int]:
    """`boundary.django.testing.advance`."""
    return advance
