"""Main: runs a command and turns what went wrong into one sentence and an exit code.

0: done.  1: it failed, or doctor found something.  2: it was called wrongly.  130: interrupted.
"""

import io
import os
import sys
from collections.abc import Sequence

import typer

from boundary.cli.app import cli
from boundary.cli.errors import Complaint
from boundary.cli.session import Desk
from boundary.embedded import EmbeddedServersError
from saga.errors import ActRefused, SagaError

_FAILED = 1
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, desk: Desk | None = None) -> None:
    """Run the command that the arguments (the process's own if not given) ask for, and exit.

    A host framework whose own command this is part of gives the desk: it knows the application.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments, desk))


def _run(arguments: Sequence[str], desk: Desk | None) -> int:
    program = "saga" if desk is None else desk.program
    try:
        code = cli(args=list(arguments), prog_name=program, standalone_mode=False, obj=desk)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:
        complaint = _complaint(error, program)
        if complaint is None:
            raise  # a bug: the traceback is what helps
        sys.stderr.write(f"saga: {complaint.sentence}\n")
        return complaint.code
    return code if isinstance(code, int) else 0


def _complaint(error: Exception, program: str) -> Complaint | None:
    if isinstance(error, Complaint):
        return error
    if isinstance(error, ActRefused):
        return Complaint(str(error), _FAILED)
    if isinstance(error, SagaError):
        return Complaint(str(error))
    if isinstance(error, EmbeddedServersError):
        return Complaint(str(error).rstrip("."), _FAILED)
    # Typer's own errors about options and arguments; it has moved their class between releases.
    tell = getattr(error, "format_message", None)
    if tell is None:
        return None
    sentence = tell().rstrip(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    if "No such option: --app" in sentence:
        return Complaint("--app goes before the command: saga --app module:attribute COMMAND")
    return Complaint(f"{sentence}; see `{context.command_path if context else program} --help`")
