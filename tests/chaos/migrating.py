"""A deploy's migration that meets one failpoint: ``python -m tests.chaos.migrating KIND``."""

import sys

from internals.database.commit_points import Boundary, watch
from tests.chaos.app import runtime_of
from tests.chaos.failpoints import strike
from tests.chaos.plan import Plan
from tests.chaos.tally import Tally


def main() -> None:
    """Migrate, and be struck at the commit."""
    kind = sys.argv[1]
    plan = Plan.load()

    def meet(boundary: Boundary, moment: str) -> None:
        if boundary is Boundary.MIGRATE and kind.endswith(moment):
            strike(kind, boundary, plan.folder, Tally(plan.folder))

    watch(meet)
    runtime_of(plan).migrate()


if __name__ == "__main__":
    main()
