"""The story that operators live by, from nothing: a trip, a bug, a stuck saga, a fix, a replay.

It runs the commands that a person would type, on embedded servers of its own, and looks into the
tables in between.  Exit code 0 only if all of it held.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from boundary.embedded import EmbeddedServers
from examples.story import NotHeld, must, say, until

_APP = "examples.flask_travel.app"
_ROOT = Path(__file__).resolve().parents[2]

_PLACE = """
from examples.flask_travel.app import create_app
answer = create_app().test_client().post("/trips", data={{"destination": {destination!r}}})
print(answer.location.rpartition("/")[2])
"""


class Agent:
    """The agent's commands, and a look into its tables."""

    def __init__(self, environment: Mapping[str, str], url: str) -> None:
        self._environment = environment
        self._tables = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def flask(self, *arguments: str) -> None:
        """Run a `flask` command and print it with what it says."""
        say(f"$ flask {shlex.join(arguments)}")
        out = self._run("-m", "flask", "--app", _APP, *arguments)
        for line in out.strip().splitlines():
            say(f"  {line.rstrip()}")

    def book(self, destination: str) -> str:
        """Book a trip as the page does, and return its number."""
        number = self._run("-c", _PLACE.format(destination=destination)).split()[-1]
        say(f"booked {destination}: {number}")
        return number

    def read(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Return rows of a query; what is not committed is not seen."""
        return self._tables.execute(query, parameters).fetchall()

    def wait_for(self, number: str, status: str) -> None:
        """Wait until a trip's saga has a status."""
        query = "SELECT status FROM saga.saga WHERE key = %s"
        until(lambda: self.read(query, number) == [(status,)], f"{number} is {status}")
        say(f"{number} is {status}")

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker, and stop it as a deploy does."""
        say("$ flask saga worker --processes 1 &")
        worker = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", _APP, "saga", "worker", "--processes", "1"],
            env=self._environment,
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            worker.terminate()
            worker.wait()

    def close(self) -> None:
        """Close the connection."""
        self._tables.close()

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self._environment,
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotHeld(f"{shlex.join(arguments)} failed: {done.stderr.strip()}")
        return done.stderr + done.stdout


def main() -> int:
    """Play the story and return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="flask-travel-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    bug = folder / "the-printer-has-a-bug"
    try:
        say("starting Postgres and Valkey")
        with EmbeddedServers(folder / "servers", durable=False) as servers:
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("SAGA_", "FLASK_"))}
            environment = kept | {
                "FLASK_SQLALCHEMY_DATABASE_URI": servers.database_url,
                "SAGA_REDIS_URL": servers.redis_url,
                "SAGA_ACTOR": "ann",
                "TRAVEL_BUG": str(bug),
            }
            agent = Agent(environment, servers.database_url)
            try:
                _play(agent, bug)
            finally:
                agent.close()
    except NotHeld as error:
        say(f"NOT HELD: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("it held")
    return 0


def _play(agent: Agent, bug: Path) -> None:
    agent.flask("init")
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
        agent.flask("saga", "list", "--status", "stuck")
        must(_left(agent, "Chicago") == (78, 1), "seats and rooms are kept for both")

        say("the fix is deployed (the flag file is removed)")
        bug.unlink()
        replay = ["saga", "replay", "--saga", "trip", "--stuck"]
        replay += ["--reason", "the printer is mended"]
        before = agent.read("SELECT s::text FROM saga.saga AS s ORDER BY 1")
        agent.flask(*replay, "--dry-run")
        must(
            agent.read("SELECT s::text FROM saga.saga AS s ORDER BY 1") == before,
            "a dry run changes nothing",
        )
        agent.flask(*replay, "--yes")
        for number in stuck:
            agent.wait_for(number, "completed")
        agent.flask("saga", "trace", stuck[0])
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
