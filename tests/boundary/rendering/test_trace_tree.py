"""A trace is drawn whatever kinds of messages are in it."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from boundary.rendering import render_trace
from internals.store.trace import Node, Trace
from saga.envelope import Category


@pytest.mark.parametrize("category", Category)
def test_every_category_is_drawn(category: Category) -> None:
    now = datetime.now(UTC)
    id = UUID(int=1)
    node = Node(id, "some.kind", category, None, None, id, None, now, (), ())
    assert "some.kind → nobody" in str(render_trace(Trace((node,), at=now)))
