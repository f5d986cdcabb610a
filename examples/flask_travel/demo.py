"""The story that operators live by, from nothing: a trip, a bug, a stuck saga, a fix, a replay.

It runs the commands that a person would type, on embedded servers of its own, and looks into the
tables in between.  Exit code 0 only if all of it held.
"""

import os
import sys
from pathlib import Path

from boundary.embedded import EmbeddedServers
from examples.story import Stage, must, say, tell

_FLASK = ("-m", "flask", "--app", "examples.flask_travel.app")

_PLACE = """
from examples.flask_travel.app import create_app
answer = create_app().test_client().post("/trips", data={{"destination": {destination!r}}})
print(answer.location.rpartition("/")[2])
"""


class Agent(Stage):
    """The travel agent's commands, and a look into its tables."""

    def __init__(self, servers: EmbeddedServers, bug: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SAGA_", "FLASK_"))}
        environment = kept | {
            "FLASK_SQLALCHEMY_DATABASE_URI": servers.database_url,
            "SAGA_REDIS_URL": servers.redis_url,
            "SAGA_ACTOR": "ann",
            "TRAVEL_BUG": str(bug),
        }
        super().__init__(environment, servers.database_url, "flask", _FLASK)

    def book(self, destination: str) -> str:
        """Book a trip as the page does, and return its number."""
        number = self.python("-c", _PLACE.format(destination=destination)).stdout.split()[-1]
        say(f"booked {destination}: {number}")
        return number


def main() -> int:
    """Play the story and return the exit code."""
    return tell("flask-travel", _open)


def _open(servers: EmbeddedServers, folder: Path) -> None:
    bug = folder / "the-printer-has-a-bug"
    agent = Agent(servers, bug)
    try:
        _play(agent, bug)
    finally:
        agent.close()


def _play(agent: Agent, bug: Path) -> None:
    agent.run("init")
    with agent.worker():
        good = agent.book("Miami")
        agent.wait_for(good, "completed")
        snowed_in = agent.book("Boston")
        agent.wait_for(snowed_in, "compensated")

        say("a release with a bug in the printer is deployed (a flag file stands for it)")
        bug.touch()
        stuck = [agent.book("Chicago") for _ in range(2)]
        for number in stuck:
            agent.wait_for(number, "stuck")
        agent.run("saga", "list", "--status", "stuck")
        must(_left(agent, "Chicago") == (78, 1), "seats and rooms are kept for both")

        say("the fix is deployed (the flag file is removed)")
        bug.unlink()
        replay = ["saga", "replay", "--saga", "trip", "--stuck"]
        replay += ["--reason", "the printer is mended"]
        before = agent.read("SELECT s::text FROM saga.saga AS s ORDER BY 1")
        agent.run(*replay, "--dry-run")
        must(
            agent.read("SELECT s::text FROM saga.saga AS s ORDER BY 1") == before,
            "a dry run changes nothing",
        )
        agent.run(*replay, "--yes")
        for number in stuck:
            agent.wait_for(number, "completed")
        agent.run("saga", "trace", stuck[0])
    _check(agent, [good, *stuck], snowed_in)


def _check(agent: Agent, booked: list[str], snowed_in: str) -> None:
    tickets = {number: ticket for number, ticket in agent.read("SELECT number, ticket FROM trip")}  # noqa: C416
    expected = {number: f"ETKT {number}" for number in booked} | {snowed_in: None}
    must(tickets == expected, "each trip has its ticket, and the one that was refused has none")
    must(_left(agent, "Miami") == (119, 39), "one seat and one room were taken in Miami")
    must(_left(agent, "Chicago") == (78, 1), "two of each in Chicago, though it was replayed")
    must(_left(agent, "Boston") == (60, 0), "and the seat to Boston was given back")
    audit = agent.read("SELECT actor, act, reason FROM saga.audit")
    must(audit == [("ann", "replayed", "the printer is mended")] * 2, "the replay is audited")
    open_ = agent.read("SELECT count(*) FROM saga.inbox WHERE state IN ('pending', 'parked')")
    must(open_ == [(0,)], "nothing is pending or parked")


def _left(agent: Agent, destination: str) -> tuple[object, ...]:
    return agent.read("SELECT seats, rooms FROM destination WHERE name = %s", destination)[0]


if __name__ == "__main__":
    sys.exit(main())
