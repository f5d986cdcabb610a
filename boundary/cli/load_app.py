"""Load app: the Runtime that ``--app module:attribute`` names."""

import importlib
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from boundary.cli.errors import Complaint
from boundary.runtime import Runtime
from boundary.settings import Settings
from saga.errors import SagaError

#: The environment variable that stands in for the option.
APP_VARIABLE = "SAGA_APP"


def load_application(name: str) -> Runtime:
    """Import an application's Runtime; the working directory comes first on the path.

    Args:
        name: ``module:attribute``; the attribute is a Runtime, or returns one when called.

    Raises:
        Complaint: There is no such thing, or importing it fails.
        SagaError: It declares something that cannot work.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise Complaint(f"--app {name!r} must be module:attribute, such as yourapp.sagas:runtime")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise _import_problem(name, module_name, error) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise Complaint(f"--app {name}: module {module_name} has no {attribute!r}") from error
    return _runtime(name, found)


def settings_runtime() -> Runtime:
    """Return a Runtime of the settings alone: enough to read the tables and to migrate them.

    Raises `Complaint` for a setting that is wrong.
    """
    try:
        return Runtime(settings=Settings())
    except ValidationError as error:
        raise settings_problem(error) from error


def settings_problem(error: ValidationError) -> Complaint:
    """Return the first thing wrong with the settings, without its value."""
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    variable = name if name.startswith("SAGA_") else f"SAGA_{name.upper()}"
    return Complaint(f"{variable}: {first['msg'].removeprefix('Value error, ')}")


def _runtime(name: str, found: object) -> Runtime:
    if callable(found) and not isinstance(found, Runtime):
        try:
            found = found()
        except (SagaError, Complaint):
            raise
        except ValidationError as error:
            if error.title == Settings.__name__:
                raise settings_problem(error) from error
            raise Complaint(f"--app {name} failed when called: {_where(error)}") from error
        except Exception as error:
            raise Complaint(f"--app {name} failed when called: {_where(error)}") from error
    if not isinstance(found, Runtime):
        raise Complaint(
            f"--app {name} is of type {type(found).__name__}; give a Runtime, or a function without "
            "arguments that returns one"
        )
    return found


def _import_problem(name: str, module: str, error: BaseException) -> Exception:
    if isinstance(error, SagaError):
        return error
    if isinstance(error, ValidationError) and error.title == Settings.__name__:
        return settings_problem(error)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and f"{module}.".startswith(f"{missing}."):
        return Complaint(
            f"--app {name}: there is no module {missing!r} in {Path.cwd()} or on the path"
        )
    return Complaint(f"--app {name} cannot be imported: {_where(error)}")


def _where(error: BaseException) -> str:
    """The error in one line, with the place in the user's code where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = f" ({Path(error.filename or '?').name}, line {error.lineno})"
    text = " ".join(str(getattr(error, "msg", None) or error).split())
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"
