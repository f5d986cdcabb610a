"""Trials: tests run in a copy, and what their failing says of a plant.

A plant is caught if its test fails: in its own body, by an assertion or an exception, or because
pytest-timeout ends it, which is how a test tells of a mistake that makes something wait for ever.
It is not caught by a test that cannot be collected or whose fixtures break, nor by an error that
only says that the planted code itself is none (an unknown name, SQL that cannot be parsed): that
is a broken plant, since any test would fail of it.
"""

import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.plant import BrokenPlant, Plant
from tests.mutants.tree import Copy

#: Errors that tell of code that is none.
_NO_CODE = re.compile(
    r"\b(ImportError|ModuleNotFoundError|NameError|UnboundLocalError|IndentationError|SyntaxError"
    r"|UndefinedColumn|UndefinedTable|UndefinedFunction|AmbiguousColumn|IndeterminateDatatype)\b"
)

#: Exit statuses of pytest: all passed, and some failed.
_PASSED, _FAILED = 0, 1

#: Seconds that pytest has to end by itself once it was asked to.
_PARTING = 30.0


class Verdict(StrEnum):
    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    BROKEN = "broken plant"


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one plant."""

    plant: Plant
    verdict: Verdict
    #: How it was caught, or why it was not, in a line.
    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What pytest said."""

    #: Its exit status; None if it did not end in time.
    status: int | None
    passed: int
    #: Tests that did not pass: the first line of each one's failure.
    failures: tuple[str, ...]
    #: Tests that broke before or after their own body, or were skipped, in a line each.
    errors: tuple[str, ...]
    output: str


def try_plant(plant: Plant, copy: Copy, *, limit: float) -> Trial:
    """Plant the mistake in this copy, run its test, and take it back.

    Args:
        plant: The mistake.
        copy: Nobody else uses it meanwhile.
        limit: Seconds after which pytest-timeout fails the test.
    """
    begun = time.monotonic()
    try:
        with copy.planted(plant):
            verdict, why = judge(run_tests(copy, [plant.caught_by], limit=limit))
    except BrokenPlant as error:
        verdict, why = Verdict.BROKEN, str(error)
    return Trial(plant, verdict, why, time.monotonic() - begun)


def judge(report: Report) -> tuple[Verdict, str]:
    """Return what a run of a plant's test says of it, and why."""
    if report.status == _PASSED and report.passed and not report.errors:
        return Verdict.SURVIVED, "its test passes"
    if report.status is None:
        return Verdict.BROKEN, "its test neither ends nor can be ended"
    if report.status != _FAILED or not report.failures:
        return Verdict.BROKEN, "; ".join(report.errors) or _last_line(report.output)
    real = [line for line in report.failures if not _NO_CODE.search(line)]
    return (Verdict.CAUGHT, real[0]) if real else (Verdict.BROKEN, report.failures[0])


def run_tests(copy: Copy, tests: Sequence[str], *, limit: float, processes: int = 1) -> Report:
    """Run these tests in this copy, whatever is planted there."""
    with TemporaryDirectory() as folder:
        written = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *tests, "-q", "--tb=short"]
        command += ["-p", "no:cacheprovider", f"--junitxml={written}"]
        command += [f"--timeout={limit}", "--timeout-method=signal"]
        command += ["-n", str(processes)] if processes > 1 else []
        with subprocess.Popen(
            command,
            cwd=copy.root,
            env=copy.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as pytest:
            # A test whose own limit is longer than ours still ends; this is for pytest itself.
            output, ended = _wait(pytest, limit * len(tests) + 300)
        status = pytest.returncode if ended else None
        if not written.is_file():
            return Report(status, 0, (), (_last_line(output),), output)
        return _read(written, status, output)


def _wait(process: "subprocess.Popen[str]", seconds: float) -> tuple[str, bool]:
    try:
        return process.communicate(timeout=seconds)[0], True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # so that fixtures stop what they have started
    try:
        return process.communicate(timeout=_PARTING)[0], False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0], False


def _read(written: Path, status: int | None, output: str) -> Report:
    passed = 0
    failures: list[str] = []
    errors: list[str] = []
    for case in ET.parse(written).getroot().iter("testcase"):
        name = case.get("name", "")
        outcomes = {child.tag: child for child in case}
        if "failure" in outcomes:
            failures.append(_first_line(outcomes["failure"]))
        errors += [
            f"{name}: {tag}: {_first_line(outcomes[tag])}"
            for tag in ("error", "skipped")
            if tag in outcomes
        ]
        passed += not outcomes.keys() & {"failure", "error", "skipped"}
    return Report(status, passed, tuple(failures), tuple(errors), output)


def _first_line(element: ET.Element) -> str:
    return (element.get("message") or "").strip().partition("\n")[0]


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "pytest said nothing"
