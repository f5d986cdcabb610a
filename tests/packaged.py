"""The package as users get it: the wheel, built from this checkout and installed elsewhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Commands of the package and of its hosts, as pip would install them.
_SCRIPTS = {
    "saga": "boundary.cli:main",
    "flask": "flask.cli:main",
    "django-admin": "django.core.management:execute_from_command_line",
}

_SCRIPT = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


@pytest.fixture(scope="session")
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
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", top, cwd=source)
    (built,) = top.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    _install(wheel, target)
    return target


@pytest.fixture(scope="session")
def packaged(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that has the wheel, and of this one only what it depends on."""
    top = tmp_path_factory.mktemp("packaged")
    run(sys.executable, "-m", "venv", "--without-pip", top, cwd=top)
    (site,) = top.glob("lib/python*/site-packages")
    _install(wheel, site)
    # Of a folder that is named so, its own .pth files are not read: no editable checkout.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for name, entry in _SCRIPTS.items():
        module, _, function = entry.partition(":")
        script = top / "bin" / name
        script.write_text(
            _SCRIPT.format(python=top / "bin" / "python", module=module, function=function)
        )
        script.chmod(0o755)
    where = run(top / "bin" / "python", "-c", "import boundary; print(boundary.__file__)", cwd=top)
    assert Path(where.strip()).is_relative_to(site)
    return top / "bin"


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what a command prints that knows nothing of this checkout; it must succeed."""
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


def _install(wheel: Path, target: Path) -> None:
    run(
        *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"),
        *("--disable-pip-version-check", "--target", target, wheel),
        cwd=target,
    )
