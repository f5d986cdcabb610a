"""Saga: a process as a value made of pure functions.

Everything that can be wrong with a definition is found when it is constructed, with one
sentence that names the saga, the step and the way out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Generic, Literal, TypeVar, get_args

from pydantic import BaseModel

from saga.errors import DefinitionError
from saga.messages import Message
from saga.steps import AnyStep, AnyWait, Parallel, Step, Wait
from saga.validation.functions import check_function
from saga.validation.kinds import check_kinds
from saga.validation.step_fields import NAME, check_timeout

D = TypeVar("D", bound=BaseModel)

OnCompensationFault = Literal["stop", "go_on"]


@dataclass(frozen=True)
class Saga(Generic[D]):
    """A process at the boundary: it ends completed, or all of it is undone.

    Args:
        name: Stored, and part of a queue's name; it must stay the same for good.
        data: The saga's data: a pydantic model, frozen by convention; steps make new values of it.
        steps: What is done, in this order.
        version: Raise it whenever the steps change; running sagas keep the version they began with.
        key: Data to business key: one saga for each key.
        deadline: How long the saga may take up to its pivot; then it compensates.
        on_compensation_fault: Whether the other compensations stop or go on when one failed; the
            saga is stuck either way.

    Attributes:
        groups: Groups of steps: a plain step alone, parallel ones together.

    Raises:
        DefinitionError: It cannot work: two steps of one name, or a compensation after the pivot.

    Example:
        ```python
        from pydantic import BaseModel

        from saga import Command, Saga, Step

        class Order(BaseModel):
            number: str

        class Reserve(Command, kind="stock.reserve"):
            order: str

        class Release(Command, kind="stock.release"):
            order: str

        class Charge(Command, kind="payments.charge"):
            order: str

        CHECKOUT = Saga(
            name="checkout",
            data=Order,
            key=lambda order: order.number,
            steps=(
                Step(
                    "stock",
                    lambda order: Reserve(order=order.number),
                    compensation=lambda order: Release(order=order.number),
                ),
                Step("payment", lambda order: Charge(order=order.number), pivot=True),
            ),
        )
        ```
    """

    name: str
    data: type[D]
    steps: tuple[AnyStep[D] | AnyWait[D] | Parallel[D], ...]
    version: int = 1
    key: Callable[[D], str] | None = None
    deadline: timedelta | None = None
    on_compensation_fault: OnCompensationFault = "stop"
    groups: tuple[tuple[Step[D] | Wait[D], ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise DefinitionError(
                f"Saga {self.name!r}: a saga's name must be a lower-case word such as 'book_trip'"
            )
        if not (isinstance(self.data, type) and issubclass(self.data, BaseModel)):
            raise DefinitionError(f"Saga {self.name!r}: data must be a pydantic model class")
        if not isinstance(self.version, int) or self.version < 1:
            raise DefinitionError(f"Saga {self.name!r}: version must be 1 or more")
        if not isinstance(self.steps, tuple) or not self.steps:
            raise DefinitionError(f"Saga {self.name!r}: steps must be a tuple of one step or more")
        for step in self.steps:
            if not isinstance(step, Step | Wait | Parallel):
                raise DefinitionError(
                    f"Saga {self.name!r}: {step!r} is neither Step nor Wait nor Parallel"
                )
        check_timeout(self.name, self.deadline)
        if self.on_compensation_fault not in get_args(OnCompensationFault):
            raise DefinitionError(
                f"Saga {self.name!r}: on_compensation_fault must be 'stop' or 'go_on', "
                f"not {self.on_compensation_fault!r}"
            )
        if self.key is not None and not callable(self.key):
            raise DefinitionError(
                f"Saga {self.name!r}: key must be a function of the data, or None"
            )
        if self.key is not None:
            check_function(self.key, f"Saga {self.name!r}: key", "data")
        groups = tuple(s.steps if isinstance(s, Parallel) else (s,) for s in self.steps)
        object.__setattr__(self, "groups", groups)
        self._check_names()
        self._check_pivot()
        check_kinds(self.events, f"Saga {self.name!r}")

    def __iter__(self) -> Iterator[Step[D] | Wait[D]]:
        """Iterate over all steps in order, those of parallel groups one after the other."""
        return (step for group in self.groups for step in group)

    @property
    def events(self) -> Iterator[type[Message]]:
        """The events that its steps await."""
        return (event for step in self for event in (step.until, *step.rejections) if event)

    def step(self, name: str) -> Step[D] | Wait[D]:
        """Return the step of this name; raises KeyError."""
        return self._by_name[name]

    @cached_property
    def pivot(self) -> str | None:
        """The name of the pivot step, if there is one."""
        return next((step.name for step in self if step.pivot), None)

    @cached_property
    def _by_name(self) -> dict[str, Step[D] | Wait[D]]:
        return {step.name: step for step in self}

    def _check_names(self) -> None:
        seen: set[str] = set()
        for step in self:
            if step.name in seen:
                raise DefinitionError(
                    f"Saga {self.name!r}: two steps are called {step.name!r}; "
                    "stored state names steps, so each needs its own name"
                )
            seen.add(step.name)

    def _check_pivot(self) -> None:
        passed: str | None = None
        for step in self:
            if step.pivot and passed is not None:
                raise DefinitionError(
                    f"Saga {self.name!r}: steps {passed!r} and {step.name!r} are both marked "
                    "pivot; a saga has at most one"
                )
            if step.pivot:
                passed = step.name
            if passed is not None and step.compensation is not None:
                raise DefinitionError(
                    f"Saga {self.name!r}: step {step.name!r} has a compensation but stands at or "
                    f"after the pivot {passed!r}, from where the saga only goes forward"
                )
