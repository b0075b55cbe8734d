"""`cp .env.example .env && docker compose up --build` works as it stands."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, validators
from psycopg.conninfo import conninfo_to_dict

from regsvc.config.loading import load
from regsvc.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
OURS = {"auth-service": "api", "email-service": "worker", "single": "all"}

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def read_env() -> dict[str, str]:
    """The assignments of `.env.example`."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(text: str, env: dict[str, str]) -> str:
    """Puts values in place of `${NAME:-default}`, from the innermost out, the way Compose does."""
    pattern = re.compile(r"\$\{(\w+):-([^${}]*)\}")
    while pattern.search(text):
        text = pattern.sub(lambda match: env.get(match[1]) or match[2], text)
    assert "${" not in text, "every variable has a default"
    return text.replace("$$", "$")


def environment_of(service: str, **changes: str) -> dict[str, str]:
    """What a container of ours finds in its environment."""
    env = read_env() | changes
    own = {name: interpolate(str(value), env) for name, value in SERVICES[service]["environment"].items()}
    return env | own


def test_the_file_is_as_the_compose_specification_has_it() -> None:
    text = (
        resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    )
    schema = json.loads(text)
    validator = validators.validator_for(schema, default=Draft202012Validator)
    problems = list(validator(schema).iter_errors(COMPOSE))
    assert not problems


def test_the_environment_example_keeps_the_names_of_the_system_this_one_replaces() -> None:
    original = {
        "DB_USER": "admin",
        "DB_PASS": "password",
        "DB_NAME": "users_db",
        "DB_PORT": "5434",
        "RABBITMQ_USER": "guest",
        "RABBITMQ_PASS": "guest",
        "RABBITMQ_PORT": "5672",
        "HTTP_HOST": "0.0.0.0",  # noqa: S104 - within a container
        "HTTP_PORT": "8080",
    }
    assert original.items() <= read_env().items()


@pytest.mark.parametrize(("service", "role"), OURS.items())
def test_each_container_starts_with_the_example_as_it_stands(service: str, role: Any) -> None:
    assert SERVICES[service]["command"] == ["serve", "--role", role]
    settings = load(environment_of(service), mode="serve", role=role)
    assert settings.public_url == "http://localhost:8080"
    assert settings.smtp_url.get_secret_value() == "smtp://mailpit:1025"
    assert conninfo_to_dict(settings.database_url.get_secret_value()) == {
        "host": "postgres",
        "password": "password",
    }
    environ = environment_of(service)
    assert (environ["PGUSER"], environ["PGDATABASE"]) == ("admin", "users_db")
    assert len(settings.insecurities()) == 6, (
        "the key, the database's password, guest, and three ways in clear"
    )


def test_migrate_starts_with_the_example_as_it_stands() -> None:
    assert SERVICES["migrate"]["command"] == ["migrate"]
    load(environment_of("migrate"), mode="migrate")


def test_without_the_switch_for_laptops_the_example_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="REGSVC_SECRET_KEY is the example key"):
        load(environment_of("single", REGSVC_ALLOW_INSECURE="off"), mode="serve")


def test_what_a_person_changes_in_the_environment_arrives() -> None:
    smtp = "smtp+starttls://me%40gmail.com:abcdefghijklmnop@smtp.gmail.com:587"
    environ = environment_of("single", REGSVC_SMTP_URL=smtp, HTTP_PORT="9090", DB_PASS="it's x@y:z/#\\")
    settings = load(environ, mode="serve")
    assert settings.smtp_url.get_secret_value() == smtp
    assert settings.public_url == "http://localhost:9090"
    assert settings.http_port == 8080, "inside the container"
    conninfo = conninfo_to_dict(settings.database_url.get_secret_value())
    assert conninfo["password"] == environ["PGPASSWORD"] == "it's x@y:z/#\\"


def started(*names: str) -> set[str]:
    """Return what `docker compose up NAMES` starts: those, or all without a profile, and what they depend on."""
    wanted = list(names) or [name for name, service in SERVICES.items() if "profiles" not in service]
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        found.add(name)
        wanted += [needed for needed in SERVICES[name].get("depends_on", {}) if needed not in found]
    return found


@pytest.mark.parametrize("names", [(), ("single",)])
def test_no_two_services_that_start_together_want_the_same_port(names: tuple[str, ...]) -> None:
    ports = [
        interpolate(port, read_env()).split(":")[-2]
        for name in started(*names)
        for port in SERVICES[name].get("ports", [])
    ]
    assert len(ports) == len(set(ports))
    assert {"8080", "5434", "5672", "15672", "8025"} == set(ports)


def test_up_starts_api_and_worker_apart_and_the_single_profile_starts_one_for_both() -> None:
    shared = {"postgres", "rabbitmq", "mailpit", "migrate"}
    assert started() == shared | {"auth-service", "email-service"}
    assert SERVICES["single"]["profiles"] == ["single"]
    assert started("single") == shared | {"single"}


def test_every_container_has_time_to_drain_and_comes_back() -> None:
    for name, service in SERVICES.items():
        assert service["stop_grace_period"] == "30s"
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")


@pytest.mark.parametrize("service", OURS)
def test_ours_wait_for_the_schema_and_not_for_what_they_can_do_without(service: str) -> None:
    needs = {name: need["condition"] for name, need in SERVICES[service]["depends_on"].items()}
    assert needs == {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
        "rabbitmq": "service_started",
        "mailpit": "service_started",
    }


def test_only_the_api_is_offered_beyond_this_machine() -> None:
    for name, service in SERVICES.items():
        if name not in OURS:
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
