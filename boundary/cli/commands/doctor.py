"""Doctor: `saga doctor`."""

from contextlib import suppress

import typer

from boundary.cli.options import Json
from boundary.cli.output import show, show_json
from boundary.cli.session import Desk
from boundary.embedded import EmbeddedServersError
from boundary.operations.doctor import Verdict, Words, diagnose
from boundary.rendering import doctor_document, render_checks


def doctor(context: typer.Context, json: Json = False) -> None:
    """Report what is wrong, and how to fix it.

    Checks servers, tables, deliveries and, with --app, definitions; exit 1 if anything is wrong.
    """
    desk: Desk = context.obj
    with suppress(EmbeddedServersError):  # is a finding
        _ = desk.engine
    words = Words(desk.program, desk.database_setting, desk.redis_setting)
    with desk.database_errors():
        findings = diagnose(desk.runtime, application=desk.app is not None, words=words)
    if json:
        show_json(doctor_document(findings))
    else:
        show(render_checks(findings))
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise typer.Exit(1)
