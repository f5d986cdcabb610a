"""Functions that are accepted though they are no plain `def`."""

from functools import wraps
from typing import Any

from saga.validation.functions import check_function


class Desk:
    def ask(self, data: Any) -> None: ...

    @classmethod
    def of_class(cls, data: Any) -> None: ...


def test_methods_are_functions() -> None:
    for method in (Desk().ask, Desk.of_class):
        check_function(method, "the action", "data")


def test_a_wrapper_of_itself_is_looked_at_once() -> None:
    """What is broken in this way says nothing of its arguments either."""

    @wraps(Desk.of_class)
    def wrapper(data: Any) -> None: ...

    wrapper.__wrapped__ = wrapper
    check_function(wrapper, "the action", "data")
