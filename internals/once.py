"""Once: an attribute that is made when it is first asked for, by one thread."""

import os
from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

_LOCK = "once lock"


class once(Generic[T]):  # noqa: N801 - used as a decorator, like `property`
    """As `functools.cached_property`, whose value two threads may make twice at the same time.

    The attributes of one object are made under one lock, as they are made of each other.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "once[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> "once[T] | T":
        if instance is None:
            return self
        # Once it is made, it is found in here before this is asked.
        made: dict[str, Any] = instance.__dict__
        # A fork copies the lock as it is, held by a thread that the child does not have.
        with made.setdefault(f"{_LOCK} {os.getpid()}", RLock()):
            if self._name not in made:
                made[self._name] = self._make(instance)
            value: T = made[self._name]
            return value
