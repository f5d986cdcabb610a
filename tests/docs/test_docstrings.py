"""What users write shows in its docstring how: each example is run, and type-checked."""

import ast
import importlib
import inspect
import re
import textwrap

import pytest

from tests.conftest import ROOT

#: What users write, by where they import it from; each has an example.
WRITTEN = {
    "saga": ("Message", "Command", "Event", "Step", "Wait", "Parallel", "Saga", "Retry"),
    "saga.testing": ("given",),
    "internals": ("Context", "Work"),
    "boundary": ("Runtime", "Settings", "SagaHandle"),
    "boundary.flask": ("SagaExtension",),
    "boundary.django": ("start",),
    "boundary.django.models": ("SagaRecord",),
}
#: It imports models, which needs a Django project; that its example is typed is tested all the same.
_IN_A_PROJECT = "boundary.django.models"

_FENCED = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"^Example:\n((?:    .*\n|\s*\n)+)", re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Return what each of them is called, and the listing under ``Example:``."""
    return [
        (f"{module}.{name}", _listing(_docstring(module, name)))
        for module, names in WRITTEN.items()
        for name in names
    ]


def _docstring(module: str, name: str) -> str:
    if module != _IN_A_PROJECT:
        return inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return next(ast.get_docstring(node) or "" for node in classes if node.name == name)


def _listing(docstring: str) -> str:
    section = _SECTION.search(f"{docstring}\n")
    listing = _FENCED.search(textwrap.dedent(section[1])) if section else None
    return listing[1] if listing else ""


@pytest.mark.parametrize(("name", "listing"), examples(), ids=lambda value: value.split("\n")[0])
def test_the_example_runs(name: str, listing: str) -> None:
    assert listing, f"{name} has no example"
    if not name.startswith(_IN_A_PROJECT):
        exec(compile(listing, f"<example of {name}>", "exec"), {"__name__": "example"})


def test_every_public_class_that_users_write_is_asked_for_one() -> None:
    """A name that is added to a package's list is in the table above, or is not for users to write."""
    for module in ("internals", "boundary"):
        public = set(importlib.import_module(module).__all__)
        assert public - set(WRITTEN[module]) <= {"Handler", "no_undo"}
