"""PgBouncer for the tests: the installed one, or Debian's package unpacked beside the environment.

`python -m tests.pgbouncer`, which `make test` runs first, gets the package where none is installed; it
needs no rights and changes nothing on the system.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: Where the package is unpacked.
HERE = Path(sys.prefix) / "pgbouncer"

_ELSEWHERE = (
    "PgBouncer is not here and could not be fetched: install it (apt-get install pgbouncer, "
    "dnf install pgbouncer, brew install pgbouncer) and run again"
)


class NoPgBouncer(Exception):
    """There is none; the text says how to get it."""


def program() -> tuple[Path, dict[str, str]]:
    """Return the program and the environment that it needs; raises `NoPgBouncer`."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which("pgbouncer", path=path):
        return Path(found), {}
    unpacked = HERE / "usr/sbin/pgbouncer"
    if not unpacked.exists():
        raise NoPgBouncer(f"{_ELSEWHERE}; `make test` fetches it where apt-get is")
    libraries = sorted({str(file.parent) for file in (HERE / "usr/lib").rglob("*.so*")})
    return unpacked, {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def fetch() -> None:
    """Unpack Debian's package, with what it needs and is not installed; raises `NoPgBouncer`."""
    apt = shutil.which("apt-get")
    if apt is None or shutil.which("dpkg-deb") is None:
        raise NoPgBouncer(_ELSEWHERE)
    with tempfile.TemporaryDirectory() as folder:
        # Lists and archives of its own, so that neither the system's nor a lock of it is needed.
        top = Path(folder)
        for part in ("lists/partial", "archives/partial"):
            (top / part).mkdir(parents=True)
        options = {
            "Dir::State::Lists": top / "lists",
            "Dir::Cache": top,
            "Dir::Cache::archives": top / "archives",
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "",
        }
        command = [apt, "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        wanted = ["install", "--yes", "--no-install-recommends", "--download-only", "pgbouncer"]
        for step in (["update"], wanted):
            ran = subprocess.run([*command, *step], capture_output=True, text=True, check=False)
            if ran.returncode:
                raise NoPgBouncer(f"{_ELSEWHERE}; apt-get said: {ran.stderr.strip()[-500:]}")
        stage = HERE.with_name("pgbouncer.new")
        shutil.rmtree(stage, ignore_errors=True)
        for package in (top / "archives").glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, stage], check=True)
        shutil.rmtree(HERE, ignore_errors=True)
        stage.rename(HERE)


if __name__ == "__main__":
    try:
        program()
    except NoPgBouncer:
        try:
            fetch()
        except NoPgBouncer as error:
            sys.exit(str(error))
