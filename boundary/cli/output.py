"""Output: coloured text for a terminal, plain text for a pipe, JSON for programs."""

import json
import os
import sys
from typing import Any

import typer
from rich.console import Console, RenderableType

#: Columns of a pipe: nothing is cut or wrapped there.
_UNBOUND = 10_000


def show(what: RenderableType) -> None:
    """Print on stdout, within the terminal's width."""
    bound = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(highlight=False, markup=False, width=None if bound else _UNBOUND)
    console.print(what)


def show_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
