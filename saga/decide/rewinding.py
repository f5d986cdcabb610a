"""Rewinding: which steps a saga undoes, and what it forgets to do them again.  Part of `decide`; pure."""

from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel

from saga.definition import Saga
from saga.state import STANDING, Direction, Phase, SagaState

D = TypeVar("D", bound=BaseModel)


def to_undo(saga: Saga[D], state: SagaState[D]) -> list[str]:
    """Return the steps to undo, the last one that was known first."""
    within = names_from(saga, state.rewind_to)
    standing = [
        (step.position or 0, name)
        for name, step in state.steps.items()
        if (step.phase in STANDING or step.again) and name in within
    ]
    return [name for _, name in sorted(standing, reverse=True)]


def rewound(saga: Saga[D], state: SagaState[D]) -> SagaState[D]:
    """Forget the steps that are to be done again, but not how often they were.

    What is not known to be undone means the same when it is done again.
    """
    within = names_from(saga, state.rewind_to)
    begun = {n: s for n, s in state.steps.items() if n in within}
    intents = {
        n: s.intent
        for n, s in begun.items()
        if s.phase is not Phase.COMPENSATED or n in state.intents
    }
    return replace(
        state,
        direction=Direction.FORWARD,
        rewind_to=None,
        steps={n: s for n, s in state.steps.items() if n not in within},
        generations={
            **state.generations,
            **{n: s.generation for n, s in begun.items()},
        },
        intents={**{n: g for n, g in state.intents.items() if n not in begun}, **intents},
    )


def names_from(saga: Saga[D], first: str | None) -> set[str]:
    """Return the steps of the group that `first` is in, and of all later groups."""
    names: set[str] = set()
    for group in saga.groups:
        if names or first is None or any(step.name == first for step in group):
            names.update(step.name for step in group)
    return names
