"""Rendering: what operators read, as text for people and as JSON documents for programs."""

from boundary.rendering.action_report import (
    render_report,
    render_signal,
    report_document,
    signal_document,
)
from boundary.rendering.audit import render_audit
from boundary.rendering.json_documents import (
    detail_document,
    doctor_document,
    group_document,
    message_document,
    parked_document,
    summary_document,
    trace_json,
)
from boundary.rendering.parked import render_groups, render_message, render_parked
from boundary.rendering.saga import render_saga
from boundary.rendering.saga_list import render_checks, render_sagas
from boundary.rendering.trace_tree import TraceText, render_trace

__all__ = [
    # For people
    "render_sagas",
    "render_saga",
    "render_trace",
    "TraceText",
    "render_parked",
    "render_message",
    "render_groups",
    "render_audit",
    "render_report",
    "render_signal",
    "render_checks",
    # For programs
    "summary_document",
    "detail_document",
    "trace_json",
    "parked_document",
    "group_document",
    "message_document",
    "report_document",
    "signal_document",
    "doctor_document",
]
