"""`python -m tests.mutants [NAME…] [--list]`: plant bugs, and see that the tests catch them."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from boundary.embedded import EmbeddedServers
from tests.mutants.plants import PLANTS
from tests.mutants.run import run

ROOT = Path(__file__).parents[2]

#: Where the tests look for servers before they start some.
_DATABASE, _REDIS = "SAGA_DATABASE_URL", "SAGA_REDIS_URL"

#: Characters of a line where nobody looks at a terminal.
_WIDTH = 180


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="plants to try; all if not given")
    parser.add_argument("--list", action="store_true", help="print the plants and try none")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="trials at a time"
    )
    options = parser.parse_args(arguments)
    known = {plant.name: plant for plant in PLANTS}
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"there is no plant {unknown[0]!r}; see --list")
    chosen = [known[name] for name in options.names] or list(PLANTS)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if options.list:
        for plant in chosen:
            console.print(f"{plant.name}: {plant.breaks}\n    {plant.caught_by}", markup=False)
        return 0
    try:
        with servers() as environment:
            good = run(chosen, ROOT, console, environment=environment, jobs=max(1, options.jobs))
    except KeyboardInterrupt:
        console.print("Interrupted: the plants that are not told of were not tried.")
        return 130
    return 0 if good else 1


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """The servers of all trials, as the environment of their tests: the given ones, or embedded
    ones, started once."""
    given = {name: os.environ[name] for name in (_DATABASE, _REDIS) if os.environ.get(name)}
    if len(given) == 2:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="saga-mutants-") as folder:
        Path(folder).chmod(0o755)  # under root, servers run as another account
        embedded = EmbeddedServers(
            Path(folder, "servers"),
            durable=False,
            postgres=_DATABASE not in given,
            valkey=_REDIS not in given,
        )
        with embedded:
            if _DATABASE not in given:
                given[_DATABASE] = embedded.database_url
            if _REDIS not in given:
                given[_REDIS] = embedded.redis_url
            yield given


if __name__ == "__main__":
    sys.exit(main())
