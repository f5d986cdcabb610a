"""Saga page: all that there is to know about one saga, on one screen."""

import json
import shlex
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from boundary.queries.blocked_on import StepDetail
from boundary.queries.saga_detail import SagaDetail
from boundary.queries.saga_list import SagaSummary
from boundary.queries.time_format import clock, duration
from boundary.rendering.audit import render_audit
from boundary.rendering.words import PHASE_STYLES, one_line, status_text
from saga.state import Status


def render_saga(detail: SagaDetail, *, program: str = "saga") -> RenderableType:
    """Draw one saga: where it stands, why, what it waits for, its steps, its data, and acts on it.

    Args:
        detail: The saga.
        program: How a command that acts begins, for what is to be done next.
    """
    saga = detail.saga
    parts: list[RenderableType] = [_facts(detail)]
    if detail.steps:
        parts += [Text(), _steps(detail)]
    if detail.parked:
        parts += [Text(), _parked(detail)]
    if detail.standing:
        parts += [Text(), _standing(detail)]
    if detail.audit:
        parts += [Text(), render_audit(detail.audit, saga.at)]
    parts += [Text(), Text("data", "dim")]
    parts.append(Text(json.dumps(detail.data, indent=2, ensure_ascii=False), overflow="fold"))
    if saga.status is Status.STUCK:
        parts += [Text(), *_next_act(detail, program)]
    return Group(*parts)


def _facts(detail: SagaDetail) -> Table:
    """Where the saga stands, why, and what it waits for."""
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
    for holder in detail.holders:
        facts.add_row("held by", Text(one_line(holder.told(saga.at)), "yellow"))
    for each in detail.running:
        facts.add_row("runs long", Text(one_line(str(each)), "yellow"))
    facts.add_row("started", clock(saga.started_at, saga.at))
    facts.add_row("took" if saga.finished_at else "for", duration(saga.age))
    return facts


def _next_act(detail: SagaDetail, program: str) -> Iterator[RenderableType]:
    """What a person does with a saga that is stuck."""
    yield Text("fix the cause, then run", "dim")
    # In one piece, so that it can be copied from a narrow terminal.
    yield Text(f"{program} replay {_named(detail.saga)} --reason WHY", overflow="ignore")
    if any(step.doubt and step.fault for step in detail.steps):
        yield Text(
            "the call that failed may have had its effect; the replay makes it under the "
            "same idempotency key, unless you know that it had none and say --no-effect",
            "dim",
        )


def _named(saga: SagaSummary) -> str:
    """The saga as a shell takes it."""
    reference = saga.reference
    return shlex.quote(reference if reference.isprintable() else str(saga.id))


def _parked(detail: SagaDetail) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("PARKED MESSAGE", "KIND", "CONSUMER"):
        table.add_column(heading, no_wrap=True)
    table.add_column("TRIED", no_wrap=True, justify="right")
    for delivery in detail.parked:
        table.add_row(
            str(delivery.message_id), delivery.kind, delivery.consumer, str(delivery.attempts)
        )
    return table


def _standing(detail: SagaDetail) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("STILL STANDING", "DONE ON"):
        table.add_column(heading, no_wrap=True)
    table.add_column("WHY", overflow="fold")
    for effect in detail.standing:
        table.add_row(effect.consumer, effect.kind, Text(one_line(effect.why)))
    return table


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
