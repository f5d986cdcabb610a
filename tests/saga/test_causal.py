"""What a command awaits says whether all that is below it is counted, and whether it undoes."""

import pytest

from saga import Done
from saga.causal import COUNTED, SETTLED, is_counted, is_undoing


@pytest.mark.parametrize(
    ("awaits", "counted", "undoing"),
    [
        ((), False, False),
        ((Done.kind,), False, False),
        ((SETTLED.kind,), True, False),
        ((Done.kind, COUNTED), True, False),
        ((COUNTED,), True, True),
        ((SETTLED.kind, COUNTED), True, False),
    ],
)
def test_what_is_counted_and_what_undoes(
    awaits: tuple[str, ...], counted: bool, undoing: bool
) -> None:
    assert is_counted(awaits) is counted
    assert is_undoing(awaits) is undoing
