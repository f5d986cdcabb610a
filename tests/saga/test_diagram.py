"""Diagrams: drawn from the tables, every arrow of them and none besides."""

import re
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum

import pytest

from saga import diagram
from saga.diagram import FIRST_PHASES, FIRST_STATUSES, mermaid_state_diagram, render
from saga.state import STEP_TRANSITIONS, TRANSITIONS, Phase, Status


class Light(StrEnum):
    """A smaller table."""

    RED = "red"
    GREEN = "green"
    BROKEN = "broken"


LIGHT = {
    Light.RED: (Light.GREEN, Light.BROKEN),
    Light.GREEN: (Light.RED,),
    Light.BROKEN: (),
}


def test_a_table_becomes_one_arrow_a_line() -> None:
    assert mermaid_state_diagram(LIGHT, (Light.RED,)) == (
        "stateDiagram-v2\n"
        "    [*] --> red\n"
        "    red --> green\n"
        "    red --> broken\n"
        "    green --> red\n"
        "    broken --> [*]"
    )


@pytest.mark.parametrize(
    ("table", "first"),
    [(TRANSITIONS, FIRST_STATUSES), (STEP_TRANSITIONS, FIRST_PHASES)],
    ids=["status", "phase"],
)
def test_every_arrow_is_a_row_of_the_table(
    table: Mapping[StrEnum, Sequence[StrEnum]], first: Sequence[StrEnum]
) -> None:
    arrows = re.findall(r"(\S+) --> (\S+)", mermaid_state_diagram(table, first))
    between = [(before, after) for before, after in arrows if "[*]" not in (before, after)]
    assert between == [(before, after) for before in table for after in table[before]]
    assert [after for before, after in arrows if before == "[*]"] == list(first)
    assert {before for before, after in arrows if after == "[*]"} == {
        state for state in table if not table[state]
    }


def test_the_fragment_holds_both_diagrams_in_fences() -> None:
    fragment = render()
    diagrams = re.findall(r"^```mermaid\n(.*?)\n```$", fragment, flags=re.DOTALL | re.MULTILINE)
    assert diagrams == [
        mermaid_state_diagram(TRANSITIONS, [Status.RUNNING]),
        mermaid_state_diagram(STEP_TRANSITIONS, [Phase.COMMANDED, Phase.WAITING, Phase.SKIPPED]),
    ]
    assert fragment.endswith("```\n")
    assert "\n\n\n" not in fragment


def test_the_module_prints_it() -> None:
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "saga.diagram"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert printed.stdout == render()


def test_it_is_printed_when_the_module_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(diagram.__file__), run_name="__main__")
    assert capsys.readouterr().out == render()
