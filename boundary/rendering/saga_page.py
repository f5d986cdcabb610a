"""Saga page: all that there is to know about one saga, on one screen."""

import json

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from boundary.operator.moments import clock, duration
from boundary.operator.showing import SagaDetail
from boundary.operator.waiting import StepDetail
from boundary.rendering.words import PHASE_STYLES, one_line, status_text


def render_saga(detail: SagaDetail) -> RenderableType:
    """Draw one saga: where it stands, why, what it waits for, its steps and its data."""
    saga = detail.saga
    facts = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("saga", Text(f"{saga.name} version {saga.version}", "bold"))
    if saga.key is not None:
        facts.add_row("key", Text(one_line(saga.key)))
    facts.add_row("id", str(saga.id))
    status = status_text(saga.status)
    if not saga.status.final:
        status.append(f", going {saga.direction.value}", "dim")
    facts.add_row("status", status)
    if saga.reason:
        facts.add_row("reason", Text(one_line(saga.reason)))
    if detail.waits_for:
        facts.add_row("waits for", Text(one_line(detail.waits_for), "yellow"))
    facts.add_row("started", clock(saga.started_at, saga.at))
    facts.add_row("took" if saga.finished_at else "for", duration(saga.age))
    parts: list[RenderableType] = [facts]
    if detail.steps:
        parts += [Text(), _steps(detail)]
    parts += [Text(), Text("data", "dim")]
    parts.append(Text(json.dumps(detail.data, indent=2, ensure_ascii=False), overflow="fold"))
    return Group(*parts)


def _steps(detail: SagaDetail) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("STEP", "PHASE", "LAST COMMAND", "ASKED"):
        table.add_column(heading, no_wrap=True)
    told = one_line(detail.saga.reason or "")
    notes = {step.name: _note(step, told) for step in detail.steps}
    if any(notes.values()):
        table.add_column("NOTE", overflow="fold")
    for step in detail.steps:
        asked = clock(step.asked_at, detail.saga.at) if step.asked_at else ""
        phase = Text(step.phase.value.replace("_", " "), PHASE_STYLES[step.phase])
        note = [Text(notes[step.name])] if notes[step.name] else []
        table.add_row(step.name, phase, step.command or "", asked, *note)
    return table


def _note(step: StepDetail, told: str) -> str:
    """What is to be said of a step and is not told above already."""
    trouble = one_line(step.fault or step.rejection or "")
    parts = [] if trouble in told else [trouble]
    if step.generation > 1:
        parts.append(f"generation {step.generation}")
    return ", ".join(part for part in parts if part)
