"""The compose file: what a schema can check, and what only this project can."""

import json
import re
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from boundary.settings import Settings

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
#: The Compose Specification's own schema, with its licence beside it.
SCHEMA = Path(__file__).parent / "compose_spec" / "compose-spec.json"

OURS = ("migrate", "stock", "worker", "app")
SERVERS = ("postgres", "valkey")
ENDLESS = (*SERVERS, "worker")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose)] == []
    if _has_compose_plugin():
        command = ["docker", "compose", "--file", str(FILE), "--profile", "*", "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_services_are_these(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*OURS, *SERVERS}


@pytest.mark.parametrize("server", SERVERS)
def test_servers_are_checked_kept_and_reached_by_nobody_else(
    compose: dict[str, Any], server: str
) -> None:
    service = compose["services"][server]
    assert service["healthcheck"]["test"]
    assert "ports" not in service
    volume = service["volumes"][0].partition(":")[0]
    assert volume in compose["volumes"]


def test_postgres_keeps_its_data_where_its_version_does(compose: dict[str, Any]) -> None:
    service = compose["services"]["postgres"]
    assert service["image"] == "postgres:18"
    assert service["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "--host=127.0.0.1" in service["healthcheck"]["test"]


def test_valkey_drops_nothing(compose: dict[str, Any]) -> None:
    command = compose["services"]["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize("name", OURS)
def test_ours_wait_for_what_they_need(compose: dict[str, Any], name: str) -> None:
    servers = {"postgres": "service_healthy", "valkey": "service_healthy"}
    needed = {
        "migrate": {"postgres": "service_healthy"},
        "stock": {"migrate": "service_completed_successfully"},
        "worker": {**servers, "stock": "service_completed_successfully"},
        "app": {**servers, "migrate": "service_completed_successfully"},
    }[name]
    waits = compose["services"][name]["depends_on"]
    assert {other: wait["condition"] for other, wait in waits.items()} == needed


@pytest.mark.parametrize("name", OURS)
def test_ours_get_settings_that_exist(compose: dict[str, Any], name: str) -> None:
    environment = compose["services"][name]["environment"]
    given = {variable for variable in environment if variable.startswith("SAGA_")}
    assert {"SAGA_DATABASE_URL", "SAGA_REDIS_URL"} <= given <= _settings()
    # What a person sets for compose is another thing: such a name would be taken for a setting.
    assert not re.search(r"\$\{SAGA_", FILE.read_text())


@pytest.mark.parametrize("name", OURS)
def test_the_given_addresses_are_accepted(
    compose: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in compose["services"][name]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value))
    settings = Settings()
    assert settings.database_url is not None
    assert settings.redis_url is not None
    servers = compose["services"]
    assert "app:local@postgres:5432/saga" in settings.database_url.get_secret_value()
    assert ":local@valkey:6379" in settings.redis_url.get_secret_value()
    assert servers["postgres"]["environment"]["POSTGRES_PASSWORD"] == "${POSTGRES_PASSWORD:-local}"
    assert servers["valkey"]["command"][-1] == "${VALKEY_PASSWORD:-local}"


@pytest.mark.parametrize("name", OURS)
def test_ours_run_what_exists(compose: dict[str, Any], name: str) -> None:
    program, *arguments = compose["services"][name]["command"]
    if program == "python":
        assert arguments[0] == "-m"
        assert util.find_spec(arguments[1]) is not None
        return
    scripts = {script.name: script for script in metadata.entry_points(group="console_scripts")}
    assert util.find_spec(scripts[program].module) is not None
    if program == "dramatiq":
        assert util.find_spec(arguments[0].partition(":")[0]) is not None
    else:
        command = [str(Path(sys.executable).with_name(program)), *arguments, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_runs_for_good_is_started_again_and_stopped_gently(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["restart"] == ("unless-stopped" if name in ENDLESS else "no")
        assert (name in ENDLESS) == ("stop_grace_period" in service)


def test_the_app_is_reached_from_this_machine_only(compose: dict[str, Any]) -> None:
    app = compose["services"]["app"]
    assert app["profiles"] == ["app"]
    assert all(port.startswith("127.0.0.1:") for port in app["ports"])


def test_the_image_is_made_of_what_is_here() -> None:
    content = (ROOT / "Dockerfile").read_text()
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        source
        for line in re.findall(r"^COPY (?!--)(.+) \S+$", content, re.MULTILINE)
        for source in line.split()
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert re.search(r"^USER (?!root)\w+$", content, re.MULTILINE)


def _settings() -> set[str]:
    """The environment variables that a setting is read from."""
    return {
        str(field.validation_alias or f"SAGA_{name.upper()}")
        for name, field in Settings.model_fields.items()
    }


def _has_compose_plugin() -> bool:
    try:
        found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return found.returncode == 0
