"""Options: those that several commands share, and how their texts are read."""

import getpass
import os
import re
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from boundary.cli.errors import Complaint
from internals.database.errors import storable
from saga.validation.durations import LONGEST

#: The environment variable that says who acts.
ACTOR_VARIABLE = "SAGA_ACTOR"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Reference = Annotated[
    str, typer.Argument(metavar="ID|NAME:KEY", help="The saga's id, or its business key.")
]
References = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID|NAME:KEY", help="Sagas, by id or business key."),
]
Reason = Annotated[
    str, typer.Option(metavar="TEXT", help="Why; it is kept in the audit.", show_default=False)
]
Actor = Annotated[
    str | None,
    typer.Option(
        envvar=ACTOR_VARIABLE,
        metavar="NAME",
        help="Who does it, for the audit; your login name and host if not given.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before many are changed.")]


def read_age(text: str | None) -> timedelta | None:
    """Return the length of time that ``--since`` gives; raises `Complaint` if it gives none."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise Complaint(f"--since {text!r} must be a number and a unit: 30s, 15m, 2h or 7d")
    age = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if age > LONGEST:
        raise Complaint(f"--since {text}: a thousand years at most")
    return age


def read_source(source: str) -> str:
    """Return the text that ``--data JSON|@FILE|-`` stands for.

    Raises `Complaint` for a file that cannot be read.
    """
    try:
        if source == "-":
            return sys.stdin.read()
        if source.startswith("@"):
            return Path(source[1:]).read_text("utf-8")
    except OSError as error:
        raise Complaint(f"--data {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Complaint(f"--data {source}: it is not UTF-8 text") from error
    return source


def read_reason(text: str) -> str:
    """Return why something is done; raises `Complaint` for a reason that says nothing."""
    return _told("--reason", text)


def read_actor(given: str | None) -> str:
    """Return who acts, for the audit: the name given, or the login name and the host."""
    return _told("--actor", f"{_login()}@{socket.gethostname()}" if given is None else given)


def _told(option: str, text: str) -> str:
    told = text.strip()
    if not told:
        raise Complaint(f"{option} is blank: it is kept in the audit, so let it say something")
    if storable(told) != told:
        raise Complaint(f"{option} is not text that Postgres can keep")
    return told


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
