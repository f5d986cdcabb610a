"""The crew: `dramatiq` processes, and whoever works beside them, that are killed, paused, replaced, and always started again."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.plan import PLACE, PLAN

ROOT = Path(__file__).parents[2]

#: Seconds that a worker gets to finish what it is doing when it is told to stop.
_GOODBYE = 30.0

#: Workers that are looked at for one that is in the middle of something.
_LOOKS = 6


@dataclass(frozen=True, slots=True)
class Job:
    """What one member of the crew does."""

    #: Arguments of this Python.
    command: tuple[str, ...]
    #: On top of this process's own.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Whether it is killed and paused only by the failpoints in it.
    spared: bool = False


def worker(threads: int, environment: Mapping[str, str]) -> Job:
    """Return the job of a `dramatiq` command with so many threads."""
    command = ("-m", "dramatiq", "tests.chaos.worker", "--processes", "1")
    patience = ("--worker-shutdown-timeout", "10000")
    return Job((*command, "--threads", str(threads), *patience), environment)


@dataclass(slots=True)
class Member:
    """One at work: the command and the processes that it forks."""

    job: Job
    process: subprocess.Popen[bytes]
    mark: Path

    @property
    def works(self) -> bool:
        """Whether it has booted and has not ended."""
        return self.mark.exists() and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group; SIGTERM the command alone, which tells its children."""
        try:
            if number is signal.SIGTERM:
                self.process.send_signal(number)
            else:
                os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass  # it ended before


class Crew:
    """So many workers at any time.  Safe to use from several threads.

    Args:
        folder: Where the plan is, and where logs go.
        jobs: One for each member.
    """

    def __init__(self, folder: Path, jobs: Sequence[Job]) -> None:
        self._folder = folder
        self._jobs = jobs
        self._booted = folder / "booted"
        self._booted.mkdir()
        self._turn = threading.RLock()
        self._launches = 0
        self._rolled = 0
        #: Workers that were told to stop and had to be killed.
        self.stubborn = 0
        self._closed = False
        self._members = [self._launch(place) for place in range(len(jobs))]
        #: Those in whose place others are, and that were not told to stop yet; and those that were.
        self._replaced: dict[int, Member] = {}
        self._dismissed: list[Member] = []

    @property
    def log(self) -> Path:
        """What all of them print."""
        return self._folder / "workers.log"

    def kill(self, rng: random.Random, witness: Callable[[str], bool]) -> bool:
        """SIGKILL one that works and start another; whether there was one.

        It is frozen first, and `witness` is asked, by its name as the database knows it, whether
        it is in the middle of something; if not, some others are looked at before one is taken
        all the same.
        """
        with self._turn:
            for left in reversed(range(_LOOKS)):
                place = self._choose(rng)
                if place is None:
                    return False
                self._members[place].signal(signal.SIGSTOP)
                if witness(self._members[place].mark.name) or not left:
                    break
                self._members[place].signal(signal.SIGCONT)
            assert place is not None
            self._members[place].signal(signal.SIGKILL)
            self._members[place].process.wait()
            self._members[place] = self._launch(place)
            return True

    def pause(self, rng: random.Random, seconds: float) -> bool:
        """SIGSTOP one that works, with whatever it holds, and let it go on later."""
        with self._turn:
            place = self._choose(rng)
            if place is None:
                return False
            member = self._members[place]
            member.signal(signal.SIGSTOP)
        time.sleep(seconds)
        member.signal(signal.SIGCONT)
        return True

    def roll(self, rng: random.Random) -> bool:
        """Replace the next one, as a deploy does one by one; whether it worked."""
        self._rolled = (self._rolled + 1) % len(self._members)
        with self._turn:
            member = self._members[self._rolled]
            working = self._working()
            if len(working) < 2 or self._rolled not in working:
                return False
        member.signal(signal.SIGTERM)
        self._await_end(member)
        self.revive()
        return True

    def revive(self) -> None:
        """Start those again that ended by themselves, or by a failpoint."""
        with self._turn:
            for place, member in enumerate(self._members):
                if member.process.poll() is not None and not self._closed:
                    self._members[place] = self._launch(place)

    @property
    def at_work(self) -> int:
        """How many workers have booted, of those that nobody was put in the place of."""
        with self._turn:
            return len(self._working())

    def replace(self, group: int) -> None:
        """Start another in the place of one that does not answer, and leave that as it is."""
        with self._turn:
            for place, member in enumerate(self._members):
                if member.process.pid == group and not self._closed:
                    self._replaced[group] = member
                    self._members[place] = self._launch(place)

    def dismiss(self, group: int) -> None:
        """Tell one to stop that was replaced."""
        with self._turn:
            member = self._replaced.pop(group, None)
            if member is not None:
                member.signal(signal.SIGTERM)
                self._dismissed.append(member)

    def await_dismissed(self) -> None:
        """Wait until those have stopped that were told to."""
        with self._turn:
            while self._dismissed:
                self._await_end(self._dismissed.pop())

    def stop(self) -> None:
        """Tell all to stop, wait, and kill those that do not."""
        with self._turn:
            self._closed = True
            for group in list(self._replaced):
                self._replaced[group].signal(signal.SIGCONT)
                self.dismiss(group)
            self.await_dismissed()
            for member in self._members:
                member.signal(signal.SIGCONT)
                member.signal(signal.SIGTERM)
            for member in self._members:
                self._await_end(member)

    def kill_all(self) -> None:
        """Leave nobody behind, whatever happened."""
        self._closed = True
        for member in (*self._members, *self._replaced.values(), *self._dismissed):
            member.signal(signal.SIGKILL)
            member.process.wait()

    def _choose(self, rng: random.Random) -> int | None:
        """Choose one that works, and never the last: on a slow machine none would ever boot."""
        working = self._working()
        return rng.choice(working) if len(working) > 1 and not self._closed else None

    def _working(self) -> list[int]:
        """The places of those that work and may be struck."""
        places = enumerate(self._members)
        return [place for place, member in places if member.works and not member.job.spared]

    def _launch(self, place: int) -> Member:
        self._launches += 1
        name = f"{place}-{self._launches}"
        job = self._jobs[place]
        plan = {PLAN: str(self._folder / "plan.json"), PLACE: name, "PGAPPNAME": name}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *job.command],
                cwd=ROOT,
                env={**os.environ, **plan, **job.environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # one group to kill, and Ctrl-C is ours alone
            )
        return Member(job, process, self._booted / name)

    def _await_end(self, member: Member) -> None:
        """Wait for a worker that was told to stop; one that does not is killed, and counted."""
        try:
            member.process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            self.stubborn += 1
        member.signal(signal.SIGKILL)  # whatever its group still has
        member.process.wait()


@contextmanager
def companion(module: str, *arguments: str) -> Iterator[str]:
    """Run a program of the harness beside the run, and yield the line that it prints first.

    It ends when its standard input does: at the end, or when this process is gone.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
