"""The wheel: built from this checkout, installed elsewhere, and migrating from there."""

import json
import sys
from pathlib import Path

from sqlalchemy import Engine, inspect

from boundary.settings import Settings
from tests.packaged import ROOT, run

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


def test_it_brings_its_migrations_and_migrates_a_fresh_schema(
    installed: Path, empty_settings: Settings, owner: Engine, tmp_path: Path
) -> None:
    assert empty_settings.database_url is not None
    printed = run(
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
