"""Actions: what a user of the admin does to sagas and parked messages, with a reason.

Each act is `boundary.operations`'s own, audited with the user's name, and refused in the same words
as on the command line.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import connections, transaction
from django.http import HttpRequest

from boundary.django.project import runtime
from boundary.operations import act_on_saga, drop_parked, retry_parked
from boundary.orchestration.operator_actions import Acted
from boundary.runtime.composition import wiring_of
from internals.database.errors import storable
from saga.errors import SagaError
from saga.messages import Cancelled, Message, Replayed, Skipped


class ReasonForm(forms.Form):
    """Why something is done."""

    reason = forms.CharField(
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "autofocus": True}),
        help_text="It is kept in the audit, with your name.",
    )

    def clean_reason(self) -> str:
        """Return a reason that says something and that Postgres can keep."""
        return storable(str(self.cleaned_data["reason"]).strip())


class StepForm(ReasonForm):
    """The step that is skipped, and why."""

    step = forms.ChoiceField()
    field_order = ("step", "reason")

    def __init__(self, *arguments: Any, steps: Iterable[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["step"].choices = [(name, name) for name in steps]


class FieldsField(forms.JSONField):
    """Some fields of an object, as JSON; nothing is an empty object, and shown as nothing."""

    def prepare_value(self, value: Any) -> Any:
        """Return what is shown."""
        return super().prepare_value(value) if value else ""

    def clean(self, value: Any) -> dict[str, Any]:
        """Return the fields."""
        found = super().clean(value) or {}
        if not isinstance(found, dict):
            raise forms.ValidationError("Give an object of the fields to correct.")
        return found


class ReplayForm(ReasonForm):
    """Where a saga goes on, with what data, and why."""

    from_step = forms.ChoiceField(
        required=False,
        label="From step",
        help_text="What was done from this step on is undone first.",
    )
    data = FieldsField(
        required=False,
        label="Corrected data",
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "placeholder": '{"cents": 500}'}),
        help_text="Fields of the saga's data to correct first, as JSON.",
    )
    no_effect = forms.BooleanField(
        required=False,
        label="The failed call had no effect",
        help_text="What is sent again gets a new idempotency key. Leave it out unless you are sure: "
        "with the old key nothing is done twice.",
    )
    field_order = ("reason", "from_step", "data", "no_effect")

    def __init__(self, *arguments: Any, steps: Iterable[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        choices = [("", "where it failed"), *((name, name) for name in steps)]
        self.fields["from_step"].choices = choices


def _replayed(given: dict[str, Any]) -> Message:
    return Replayed(
        reason=given["reason"],
        from_step=given.get("from_step") or None,
        data=given.get("data") or {},
        no_effect=bool(given.get("no_effect")),
    )


@dataclass(frozen=True, slots=True)
class SagaAct:
    """An act on sagas."""

    name: str
    past: str
    explained: str
    form: type[ReasonForm]
    make: Callable[[dict[str, Any]], Message]


SAGA_ACTS = {
    act.name: act
    for act in (
        SagaAct(
            "replay",
            "replayed",
            "It goes on from where it failed. Finished steps stay as they are.",
            ReplayForm,
            _replayed,
        ),
        SagaAct(
            "cancel",
            "cancelled",
            "It is undone, stuck or not, unless it is past its pivot. What has not begun is "
            "revoked, and what is being handled is awaited.",
            ReasonForm,
            lambda given: Cancelled(reason=given["reason"]),
        ),
        SagaAct(
            "skip",
            "skipped",
            "The failed step counts as settled by other means; it is not compensated later.",
            StepForm,
            lambda given: Skipped(step=given["step"], reason=given["reason"]),
        ),
    )
}

#: Acts on parked messages, with how they are told.
PARKED_ACTS = {"retry": (retry_parked, "retried"), "drop": (drop_parked, "dropped")}


def may(request: HttpRequest, act: str, model: str = "saga") -> bool:
    """Whether the user has the permission of an act."""
    allowed: bool = request.user.has_perm(f"saga.{act}_{model}")
    return allowed


def act_on(request: HttpRequest, ids: Iterable[UUID], act: SagaAct, given: dict[str, Any]) -> int:
    """Act on each saga, tell the user what became of it, and return how many were done."""
    made = runtime()
    done = 0
    for id in ids:
        try:
            with made.django.nested():
                acted = act_on_saga(made, id, act.make(given), actor=_actor(request))
        except SagaError as error:
            messages.error(request, f"Refused: {error}.")
        else:
            done += 1
            ring_later(acted.woken)
            messages.success(request, f"{id} {act.past}: {told(acted)}.")
    return done


def preview(request: HttpRequest, id: UUID, act: SagaAct, given: dict[str, Any]) -> str:
    """Return what an act would do, or why it is refused, and change nothing."""
    made = runtime()
    try:
        with made.django.nested():
            acted = act_on_saga(made, id, act.make(given), actor=_actor(request), dry_run=True)
    except SagaError as error:
        return f"It would be refused: {error}."
    return f"It would be {act.past}: {told(acted)}."


def act_on_parked(
    request: HttpRequest, parked: Iterable[tuple[UUID, str | None]], act: str, reason: str
) -> None:
    """Retry or drop parked messages, and tell the user what became of each.

    Args:
        request: The user's.
        parked: Messages, each with the consumer where it is meant, or None for all where it is.
        act: One of `PARKED_ACTS`.
        reason: Why.
    """
    made = runtime()
    do, past = PARKED_ACTS[act]
    for id, consumer in parked:
        try:
            with made.django.nested():
                do(made, id, actor=_actor(request), reason=reason, consumer=consumer)
        except SagaError as error:
            messages.error(request, f"Refused: {error}.")
        else:
            ring_later(frozenset(wiring_of(made).consumers))
            where = "" if consumer is None else f" at {consumer}"
            messages.success(request, f"Message {id}{where} is {past}.")


def told(acted: Acted) -> str:
    """Return what an act did in one line."""
    parts = [acted.before.value]
    if acted.after is not acted.before:
        parts = [f"{acted.before.value} → {acted.after.value}"]
    if acted.sent:
        parts.append(f"sends {', '.join(acted.sent)}")
    if acted.new_key:
        parts.append(
            "with a new idempotency key: the failed call is declared to have had no effect"
        )
    if acted.retried:
        parts.append(f"{len(acted.retried)} parked delivered again")
    return "; ".join(parts)


def ring_later(consumers: frozenset[str]) -> None:
    """Ring after the commit of a request that is a transaction as a whole: before, it is early."""
    made = runtime()
    if connections[made.django.alias].in_atomic_block:
        transaction.on_commit(
            lambda: wiring_of(made).broker.ring(consumers), using=made.django.alias, robust=True
        )


def _actor(request: HttpRequest) -> str:
    name: str = request.user.get_username()
    return name
