"""Diagrams: what a saga and a step may become, drawn from the tables in `saga.state`.

``python -m saga.diagram`` prints the fragment that the documentation holds.
"""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from saga.state import STEP_TRANSITIONS, TRANSITIONS, Phase, Status

S = TypeVar("S", bound=StrEnum)

#: Where a saga begins.
FIRST_STATUSES = (Status.RUNNING,)
#: Where a step begins.
FIRST_PHASES = (Phase.COMMANDED, Phase.WAITING, Phase.SKIPPED)


def render() -> str:
    """Return both diagrams as a Markdown fragment that ends with a newline."""
    return (
        f"The status of a saga:\n\n{_fenced(TRANSITIONS, FIRST_STATUSES)}\n"
        f"The phase of one step of it:\n\n{_fenced(STEP_TRANSITIONS, FIRST_PHASES)}"
    )


def mermaid_state_diagram(transitions: Mapping[S, Sequence[S]], first: Sequence[S]) -> str:
    """Return a Mermaid state diagram of a table, one arrow a line.

    Args:
        transitions: State to the states it may become; one that becomes nothing is final.
        first: The states in which it begins.
    """
    arrows = [("[*]", state.value) for state in first]
    for state, following in transitions.items():
        arrows += [(state.value, next_state.value) for next_state in following]
        if not following:
            arrows.append((state.value, "[*]"))
    return "\n".join(["stateDiagram-v2", *(f"    {a} --> {b}" for a, b in arrows)])


def _fenced(transitions: Mapping[S, Sequence[S]], first: Sequence[S]) -> str:
    return f"```mermaid\n{mermaid_state_diagram(transitions, first)}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(render())
