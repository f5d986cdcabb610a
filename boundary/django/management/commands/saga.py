"""``manage.py saga``: the command line of `boundary.cli`, on this project."""

import argparse
import os
import sys
from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    handle_default_options,
)
from django.db import connections

from boundary.cli import main
from boundary.django.session import ProjectDesk

#: Options that every Django command has; the rest is the command line's own.
_DJANGOS = ("--settings", "--pythonpath")


class Command(BaseCommand):
    """Hands everything over, but for the options that say which project it is."""

    help = "Start, run, inspect and repair sagas: `manage.py saga --help` lists the commands."
    requires_system_checks: Any = ()

    def run_from_argv(self, argv: list[str]) -> None:
        mine, rest = _split(argv[2:])
        parser = self.create_parser(argv[0], argv[1])
        handle_default_options(parser.parse_args(mine))
        # A worker's processes are started without manage.py, which puts its folder on the path.
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, sys.path)))
        try:
            main(rest, ProjectDesk())
        finally:
            connections.close_all()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "arguments", nargs=argparse.REMAINDER, help="see `manage.py saga --help`"
        )

    def handle(self, *_: Any, arguments: list[str], **options: Any) -> None:
        """Run by `call_command("saga", "list", …)`, inside a test's transaction too."""
        desk = ProjectDesk()
        try:
            with desk.runtime.django.nested():
                main(arguments, desk)
        except SystemExit as ended:
            if ended.code:
                raise CommandError(
                    f"saga {' '.join(arguments)} failed", returncode=int(ended.code)
                ) from None


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part Django's own options, wherever they stand before ``--``, from the others."""
    mine: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument in _DJANGOS:
            mine += [argument, next(waiting, "")]
        elif argument.startswith(tuple(f"{name}=" for name in _DJANGOS)):
            mine.append(argument)
        else:
            rest.append(argument)
    return mine, rest
