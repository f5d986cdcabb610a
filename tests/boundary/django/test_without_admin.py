"""A project that has no `django.contrib.admin` can use all but the admin's own package."""

import subprocess
import sys

_PROGRAM = """
import importlib, pathlib
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "boundary.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
)
django.setup()
import boundary.django
folder = pathlib.Path(boundary.django.__file__).parent
for file in sorted(folder.rglob("*.py")):
    parts = file.relative_to(folder).with_suffix("").parts
    if parts[0] not in ("admin", "migrations") and parts[-1] != "__init__":
        name = ".".join(("boundary.django", *parts))
        importlib.import_module(name)
        print(name)
"""


def test_each_of_the_other_modules_can_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert "boundary.django.pages" in done.stdout.split()
