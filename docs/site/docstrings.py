"""Docstrings are written for `help()` and for editors: here they become pages of the reference.

A name in `single backticks` is code, and leads to its entry if the reference has one.  An indented
block after a blank line is a listing, and so is what stands between fences.  Settings are listed with
their variables.
"""

import importlib
import inspect
import re
from functools import cache
from typing import Any

from docutils import nodes
from pydantic_settings import BaseSettings
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring

#: Modules whose names users import: the reference has each public name once, under this module.
PUBLIC = (
    "saga",
    "saga.testing",
    "internals",
    "boundary",
    "boundary.bridges",
    "boundary.django",
    "boundary.flask",
)

#: Other projects' names, which are not looked up.
NOT_OURS = (
    r"(typing|collections|datetime|pathlib|uuid|enum|logging|contextlib|types|_thread)\..*",
    r"(sqlalchemy|psycopg|pydantic|pydantic_settings|pydantic_core|dramatiq|redis|flask|click)\..*",
)

_NAPOLEON = Config(napoleon_use_rtype=False)
_CODE = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")
_NAMED = re.compile(r" {4}(\w+): (.*)")
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Note|Warning|Examples?):")


def setup(app: Sphinx) -> dict[str, bool]:
    """Read docstrings, and find public names."""
    app.connect("autodoc-process-docstring", _as_page)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _skip_configuration)
    app.connect("missing-reference", _find_public)
    return {"parallel_read_safe": True}


def _as_page(
    app: Sphinx, kind: str, name: str, documented: object, options: object, lines: list[str]
) -> None:
    settings = inspect.isclass(documented) and issubclass(documented, BaseSettings)
    described = _taken_out(lines, "Attributes") if settings else {}
    lines[:] = [_CODE.sub(_mark, line) for line in _with_listings(_unfenced(lines))]
    # Of an attribute's `one: two` napoleon would take `one` for the type.
    if kind not in ("attribute", "property", "data"):
        lines[:] = GoogleDocstring(lines, _NAPOLEON, app, kind, name, documented, options).lines()
    if settings:
        lines += _settings(documented, described)  # type: ignore[arg-type]


def _unfenced(lines: list[str]) -> list[str]:
    """Write a listing between fences, as Markdown has it, as a directive."""
    done: list[str] = []
    fenced = False
    for line in lines:
        indent, fence, language = line.partition("```")
        if fence and not indent.strip():
            fenced = not fenced
            done += [f"{indent}.. code-block:: {language}", ""] if fenced else [""]
        else:
            done.append(f"    {line}" if fenced and line.strip() else line)
    return done


def _taken_out(lines: list[str], section: str) -> dict[str, str]:
    """Take a section out of a docstring; returns what it says of each name."""
    begin = lines.index(f"{section}:")
    end = next(
        (at for at in range(begin + 1, len(lines)) if lines[at] and not lines[at].startswith(" ")),
        len(lines),
    )
    found: dict[str, str] = {}
    for line in lines[begin + 1 : end]:
        named = _NAMED.match(line)
        if named:
            found[named[1]] = named[2]
        elif found and line.strip():
            found[[*found][-1]] += f" {line.strip()}"
    del lines[begin:end]
    return found


def _settings(of: type[BaseSettings], described: dict[str, str]) -> list[str]:
    """A table of the settings and their variables."""
    rows = ["", ".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
    rows += ["   * - setting", "     - variable", "     - default", "     - what it is"]
    for name, field in of.model_fields.items():
        variable = (
            field.validation_alias or f"{of.model_config.get('env_prefix', '')}{name}".upper()
        )
        default = field.get_default(call_default_factory=True)
        rows += [
            f"   * - ``{name}``",
            f"     - ``{variable}``",
            f"     - ``{default}``" if default not in (None, {}) else "     -",
            f"     - {_CODE.sub(_mark, described[name])}",
        ]
    return [*rows, ""]


def _shorten(
    _app: Sphinx, _kind: str, _name: str, of: object, _options: object, arguments: str, returns: str
) -> tuple[str, str] | None:
    """Leave out of a signature what pydantic adds, and `<factory>` of a dataclass: it is no Python."""
    if inspect.isclass(of) and issubclass(of, BaseSettings):
        return "", ""
    return (arguments.replace("<factory>", "..."), returns) if arguments else None


def _skip_configuration(
    _app: Sphinx, _kind: str, name: str, _obj: object, _skip: bool, _options: object
) -> bool | None:
    return True if name.startswith("model_") else None


def _mark(found: re.Match[str]) -> str:
    code = found.group(1)
    target = _entries().get(code)
    return f":py:obj:`{code} <{target}>`" if target else f"``{code}``"


def _with_listings(lines: list[str]) -> list[str]:
    """Say `::` before each indented block that follows a paragraph, outside of sections."""
    done: list[str] = []
    section = False
    for line, above in zip(lines, ["", *lines], strict=False):
        if line and not line.startswith(" "):
            section = bool(_SECTION.fullmatch(line.strip()))
        begins = line.startswith("    ") and not above.strip()
        if begins and not section and not (done and _in_listing(done)):
            done += ["::", ""]
        done.append(line)
    return done


def _in_listing(done: list[str]) -> bool:
    last = next((line for line in reversed(done) if line.strip()), "")
    return last.startswith("    ") or last.endswith("::")


@cache
def _entries() -> dict[str, str]:
    """The entries of the reference by each name that a docstring may use."""
    found: dict[str, str] = {}
    for name, target in _public().values():
        if name[0].isupper():  # a function's name may be a method's too
            found.setdefault(name, target)
        found[target] = target
        owner = _value(target)
        if inspect.isclass(owner):
            for member in vars(owner):
                if not member.startswith("_"):
                    found[f"{name}.{member}"] = f"{target}.{member}"
    return found


@cache
def _public() -> dict[str, tuple[str, str]]:
    """Where public names are really defined, with the name and the entry."""
    found: dict[str, tuple[str, str]] = {}
    for module_name in PUBLIC:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            defined = f"{value.__module__}.{getattr(value, '__qualname__', name)}"
            found.setdefault(defined, (name, f"{module_name}.{name}"))
    return found


def _value(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _find_public(
    app: Sphinx, env: BuildEnvironment, link: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Element | None:
    """Lead from where a name is defined, as annotations have it, to its entry.

    What exists and has no entry is named only.  What does not exist stays unknown, and fails.
    """
    name = link["reftarget"]
    if link.get("refdomain") != "py":
        return None
    if name in _public():
        _, target = _public()[name]
        domain = env.domains.python_domain
        return domain.resolve_xref(env, link["refdoc"], app.builder, "obj", target, link, text)
    return text if _exists(name) else None


@cache
def _exists(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if not module.startswith(("saga", "internals", "boundary")):
        return False
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return False
