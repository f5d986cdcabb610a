"""``python -m tests.chaos``: run a profile of faults, and exit 0 only if everything held."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from tests.chaos.drive import Standing
from tests.chaos.profiles import PROFILES
from tests.chaos.report import write
from tests.chaos.run import Options, run

#: Seconds between two lines that tell how far it is.
_TELL = 10.0


def main() -> int:
    """Run what the command line says.  Returns 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="all")
    parser.add_argument("--trips", type=_at_least(1), default=500, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--workers", type=_at_least(2), default=4, metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=0.0, metavar="S", help="let the storm last so long"
    )
    parser.add_argument(
        "--own-database",
        action="store_true",
        help="give two contexts a Postgres of their own, which is struck too",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--keep", action="store_true", help="leave the folder with the logs, and tell where"
    )
    given = parser.parse_args()
    options = Options(
        profile=given.profile,
        trips=given.trips,
        seed=given.seed,
        workers=given.workers,
        seconds=given.seconds,
        own_database=given.own_database,
        keep=given.keep,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        report = run(options, _teller(given.trips))
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; all that was started is stopped.\n")
        return 130
    write(report, as_json=given.json)
    return 0 if report.ok else 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Once is enough: what follows is the stopping, which should not be interrupted."""
    for handled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(handled, signal.SIG_IGN)
    raise KeyboardInterrupt


def _teller(trips: int) -> Callable[[Standing | None], None]:
    """Tell now and then, on stderr, how far it is."""
    told = time.monotonic()

    def tell(standing: Standing | None) -> None:
        nonlocal told
        if standing is not None and time.monotonic() - told > _TELL:
            told = time.monotonic()
            sys.stderr.write(
                f"{standing.over:,} of {trips:,} trips are over, {standing.begun:,} begun, "
                f"{standing.pending:,} deliveries pending\n"
            )

    return tell


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more")
        return int(text)

    return whole_number


if __name__ == "__main__":
    sys.exit(main())
