"""The wheel: built from this checkout, installed elsewhere, and migrating from there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect

from boundary.settings import Settings

ROOT = Path(__file__).parents[2]

# Runs where only the installed wheel and the dependencies can be imported.
MIGRATE = """
import importlib.util, json, os, sys
(wheel,) = sys.argv[1:]
sys.path[:] = [wheel] + [p for p in sys.path if not os.path.exists(f"{p}/boundary/__init__.py")]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in type(f).__module__.lower()]
from sqlalchemy import create_engine
import boundary, boundary.migration, internals, saga
assert importlib.util.find_spec("migrations") is None, "the checkout can be imported"
engine = create_engine(os.environ["SAGA_DATABASE_URL"])
boundary.migration.migrate(engine, os.environ["SAGA_SCHEMA"])
engine.dispose()
print(json.dumps([m.__file__ for m in (boundary, internals, saga)]
    + [str(boundary.migration._scripts())]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy that holds what a checkout holds."""
    top = tmp_path_factory.mktemp("wheel")
    source = top / "source"
    source.mkdir()
    for name in ("saga", "internals", "boundary", "migrations"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", top, cwd=source)
    (built,) = top.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    _run(
        *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"),
        *("--disable-pip-version-check", "--target", target, wheel),
        cwd=target,
    )
    return target


def test_it_brings_its_migrations_and_migrates_a_fresh_schema(
    installed: Path, empty_settings: Settings, owner: Engine, tmp_path: Path
) -> None:
    assert empty_settings.database_url is not None
    printed = _run(
        *(sys.executable, "-c", MIGRATE, installed),
        cwd=tmp_path,
        env={
            "SAGA_DATABASE_URL": empty_settings.database_url.get_secret_value(),
            "SAGA_SCHEMA": empty_settings.db_schema,
        },
    )
    for file in json.loads(printed):
        assert Path(file).is_relative_to(installed), file
    tables = inspect(owner).get_table_names(schema=empty_settings.db_schema)
    assert {"inbox", "outbox", "saga", "subscription"} <= set(tables)


def test_every_module_of_the_checkout_is_in_it(installed: Path) -> None:
    for package in ("saga", "internals", "boundary"):
        ours = {p.relative_to(ROOT) for p in (ROOT / package).rglob("*.py")}
        theirs = {p.relative_to(installed) for p in (installed / package).rglob("*.py")}
        packaged = {p for p in theirs if p.is_relative_to("boundary/migrations")}
        assert theirs - packaged == ours
    versions = (ROOT / "migrations" / "versions").glob("*.py")
    assert {p.name for p in versions} == {
        p.name for p in (installed / "boundary" / "migrations" / "versions").glob("*.py")
    }


def test_it_takes_no_name_that_is_not_its_own(installed: Path) -> None:
    # A top-level package "migrations", "tests" or "examples" would collide with the host's.
    found = {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")}
    assert found - {"bin"} == {"saga", "internals", "boundary"}


def test_it_is_typed(installed: Path) -> None:
    for package in ("saga", "internals", "boundary"):
        assert (installed / package / "py.typed").is_file(), package


def _run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
