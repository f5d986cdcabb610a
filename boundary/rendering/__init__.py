"""Rendering: what operators read, as text for people and as JSON documents for programs."""

from boundary.rendering.documents import (
    detail_document,
    doctor_document,
    summary_document,
    trace_json,
)
from boundary.rendering.lists import render_checks, render_sagas
from boundary.rendering.saga_page import render_saga
from boundary.rendering.trace_tree import TraceText, render_trace

__all__ = [
    # For people
    "render_sagas",
    "render_saga",
    "render_trace",
    "TraceText",
    "render_checks",
    # For programs
    "summary_document",
    "detail_document",
    "trace_json",
    "doctor_document",
]
