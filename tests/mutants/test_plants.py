"""The plants can be made, and the runner knows a plant that survives from one that is caught."""

import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.mutants.__main__ import ROOT, main
from tests.mutants.plant import BrokenPlant, Plant
from tests.mutants.plants import PLANTS
from tests.mutants.run import run
from tests.mutants.symbols import spans

#: As many mistakes as the tests must be known to see, at least.
LEAST = 25


class TestPlants:
    def test_there_are_enough_and_no_two_are_called_the_same(self) -> None:
        assert len({plant.name for plant in PLANTS}) == len(PLANTS) >= LEAST

    @pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
    def test_its_text_is_there_once_and_what_comes_of_it_is_python(self, plant: Plant) -> None:
        source = (ROOT / plant.file(ROOT)).read_text()
        assert plant.mutated(source) != source

    def test_no_name_in_what_comes_of_them_is_unknown(self, tmp_path: Path) -> None:
        # Such a mistake would be caught by any test, and by every linter.
        for plant in PLANTS:
            path = tmp_path / f"{plant.name}.py"
            path.write_text(plant.mutated((ROOT / plant.file(ROOT)).read_text()))
        found = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", tmp_path],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert found.returncode == 0, found.stdout

    def test_the_tests_that_catch_them_exist(self) -> None:
        tests = sorted({plant.caught_by for plant in PLANTS})
        collected = subprocess.run(
            [sys.executable, "-m", "pytest", *tests, "--collect-only", "-q"],
            check=False,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert collected.returncode == 0, collected.stdout

    def test_they_can_be_listed_and_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--list"]) == 0
        listed = capsys.readouterr().out
        assert all(plant.name in listed for plant in PLANTS)
        with pytest.raises(SystemExit):
            main(["no-such-plant"])
        assert "there is no plant 'no-such-plant'" in capsys.readouterr().err


FARE = """def fare(age: int) -> int:
    if age < 6:
        return 0
    return 5
"""
TESTS = """from toll import fare

def test_children_ride_free():
    assert fare(5) == 0

def test_others_pay():
    assert fare(6) == 5

def test_it_fails_already():
    assert fare(7) == 6
"""

Try = Callable[..., tuple[bool, str]]


def plant(find: str, replace: str, caught_by: str = "test_children_ride_free") -> Plant:
    return Plant("it", "the toll", "toll:fare", find, replace, f"test_toll.py::{caught_by}")


@pytest.fixture
def try_them(tmp_path: Path) -> Try:
    """Try plants on a tree of two files, as `python -m tests.mutants` does on ours."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, text in {"toll.py": FARE, "test_toll.py": TESTS, "pyproject.toml": ""}.items():
        (tree / name).write_text(text)

    def try_on_tree(*plants: Plant, limit: float = 60.0) -> tuple[bool, str]:
        said = StringIO()
        good = run(plants, tree, Console(file=said, width=200), environment={}, jobs=1, limit=limit)
        assert (tree / "toll.py").read_text() == FARE  # it is done in a copy
        return good, said.getvalue()

    return try_on_tree


class TestRun:
    def test_what_its_test_sees_is_caught(self, try_them: Try) -> None:
        good, said = try_them(plant("age < 6", "age < 5"))
        assert good
        assert "1 of 1 plants caught" in said

    def test_what_harms_nobody_survives_and_the_run_fails(self, try_them: Try) -> None:
        good, said = try_them(
            plant("    return 5\n", "    return 5  # cents\n"), plant("age < 6", "age < 5")
        )
        assert not good
        assert "it: SURVIVED: its test passes" in said

    def test_what_makes_its_test_wait_for_ever_is_caught(self, try_them: Try) -> None:
        forever = plant("    if age < 6:", "    while age < 6:\n        pass\n    if age < 6:")
        good, said = try_them(forever, limit=3.0)
        assert good
        assert "from pytest-timeout" in said

    @pytest.mark.parametrize(
        ("broken", "why"),
        [
            (plant("age < 60", "age < 5"), "occurs 0 times"),
            (plant("age", "years"), "occurs 2 times"),
            (plant("age < 6", "age <"), "no Python any more"),
            (plant("age < 6", "age < SIX"), "NameError"),
            (plant("def fare", "import no_such_module\n\ndef fare"), "it: broken plant"),
        ],
    )
    def test_a_plant_that_any_test_would_see_is_broken(
        self, try_them: Try, broken: Plant, why: str
    ) -> None:
        good, said = try_them(broken)
        assert not good
        assert "it: broken plant" in said
        assert why in said

    def test_where_the_tests_fail_as_they_are_nothing_is_planted(self, try_them: Try) -> None:
        good, said = try_them(plant("age < 6", "age < 5", "test_it_fails_already"))
        assert not good
        assert "Nothing was planted: the tests do not pass as they are." in said

    def test_where_the_copy_is_not_what_is_imported_nothing_is_planted(self, try_them: Try) -> None:
        good, said = try_them(Plant("it", "all", "sys:exit", "a", "b", "test_toll.py"))
        assert not good
        assert "The copy is not what is imported" in said


def test_a_plant_that_changes_nothing_is_broken() -> None:
    with pytest.raises(BrokenPlant, match="it changes nothing"):
        plant("age < 6", "age < 6").mutated(FARE)


SHIP = """NAME = "Ann"

class Ship:
    name: str = NAME

    @property
    def sails(self) -> int:
        return 5
"""


class TestSymbols:
    """A plant finds its symbol by name: what stands around it, and where, is of no concern."""

    def move(self, tmp_path: Path, **files: str) -> Plant:
        for name, text in files.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Plant("it", "the fleet", "fleet:Ship.sails", "return 5", "return 6", "test_it.py")

    def test_its_file_may_move_within_the_package(self, tmp_path: Path) -> None:
        planted = self.move(tmp_path, fleet__harbour__ships=SHIP, fleet__other="sails = 5")
        assert planted.put_into(tmp_path) == Path("fleet", "harbour", "ships.py")
        assert (tmp_path / "fleet/harbour/ships.py").read_text() == SHIP.replace("5", "6")

    def test_the_same_text_may_stand_elsewhere(self, tmp_path: Path) -> None:
        source = f"{SHIP}\n\ndef more() -> int:\n    return 5\n"
        assert self.move(tmp_path).mutated(source) == source.replace("return 5", "return 6", 1)

    @pytest.mark.parametrize("symbol", ["NAME", "Ship", "Ship.name", "Ship.sails"])
    def test_it_may_be_a_constant_a_class_or_a_part_of_one(self, symbol: str) -> None:
        [(start, end)] = spans(SHIP, symbol)
        assert symbol.rpartition(".")[2] in SHIP[start:end]
        assert SHIP[start:end].count("\n") == {"NAME": 1, "Ship": 6, "Ship.name": 1}.get(symbol, 3)

    def test_one_that_is_not_there_or_twice_is_told(self, tmp_path: Path) -> None:
        planted = self.move(tmp_path, fleet__other="")
        with pytest.raises(BrokenPlant, match=r"there is no 'Ship\.sails' in fleet"):
            planted.file(tmp_path)
        self.move(tmp_path, fleet__ships=SHIP, fleet__boats=SHIP)
        with pytest.raises(BrokenPlant, match=r"boats\.py and in .*ships\.py: name a smaller"):
            planted.file(tmp_path)
