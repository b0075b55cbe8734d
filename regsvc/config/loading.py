"""Reading and checking the settings of a process; nothing else reads the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import (
    SecretStr,
    ValidationError,
)

from regsvc.config.environment import is_service_link, read, variable
from regsvc.config.libpq_service import expand_service
from regsvc.config.settings import SECRETS, Mode, Role, Settings
from regsvc.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MIGRATION = frozenset({"database_url", "log_format", "log_level"})
_DEV = {"mail_from": "regsvc <no-reply@localhost>"}
_OWN_QUEUES = frozenset({"email_confirm", "email_confirm.dead"})


def load(
    environ: Mapping[str, str] | None = None,
    *,
    mode: Mode,
    role: Role | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Settings:
    """Reads and checks the settings of a process.

    Args:
        environ: where to read them; the process's environment if None.
        mode: what the process is about to do, which decides what it needs. `migrate` looks at the database
            and the log alone; `serve` and `check` refuse what is insecure, the others take it.
        role: part of the program to run; wins over `REGSVC_ROLE`.
        defaults: values by field name, written as in the environment, for what is not set there.

    Raises:
        ConfigurationError: naming every problem at once, and no secret's value.
    """
    problems: dict[str, str] = {}
    values = (_DEV if mode == "dev" else {}) | dict(defaults or {})
    found = os.environ if environ is None else environ
    values |= read(
        found,
        fields=Settings.model_fields,
        secrets=SECRETS,
        wanted=_MIGRATION if mode == "migrate" else Settings.model_fields,
        problems=problems,
    )
    if role is not None:
        values["role"] = role
    settings = _with_libpq_password(_with_libpq_service(_validated(values, problems), found), found)
    lines = [
        *problems.values(),
        *(
            f"{variable(field)} is missing: {Settings.model_fields[field].description}"
            for field in _needed(mode, settings)
            if field not in values and variable(field) not in problems
        ),
        *_contradictions(settings),
    ]
    if mode in {"serve", "check"}:
        lines += settings.refused_insecurities()
    if lines:
        raise ConfigurationError("\n  ".join(["The configuration is not usable:", *lines]))
    if mode == "dev" and not settings.public_url:
        return settings.model_copy(update={"public_url": f"http://localhost:{settings.http_port}"})
    return settings


def list_service_links(environ: Mapping[str, str] | None = None) -> list[str]:
    """List the variables that look like settings and are ignored: Kubernetes sets them for its Services."""
    found = os.environ if environ is None else environ
    return sorted(name for name, value in found.items() if is_service_link(name, value))


def _validated(values: Mapping[str, str], problems: dict[str, str]) -> Settings:
    """Builds the settings of those values that are valid; the others go to the problems, by variable."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        wrong = {str(item["loc"][0]): item["msg"] for item in error.errors(include_input=False)}
    for field, message in wrong.items():
        own = message.removeprefix("Value error, ")
        problems[variable(field)] = f"{variable(field)}{': ' if own == message else ' '}{own}"
    return Settings.model_validate({field: value for field, value in values.items() if field not in wrong})


def _with_libpq_service(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return settings whose database URLs hold what a service of libpq's stands for."""
    update: dict[str, SecretStr] = {}
    for field in ("database_url", "database_listen_url"):
        secret: SecretStr | None = getattr(settings, field)
        if secret is not None and secret.get_secret_value():
            update[field] = SecretStr(expand_service(secret.get_secret_value(), environ))
    return settings.model_copy(update=update)


def _with_libpq_password(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return settings whose database URL has the password that libpq would take from PGPASSWORD.

    Then it is looked at, and masked in logs, like one that stands in the URL.
    """
    password, url = environ.get("PGPASSWORD"), settings.database_url.get_secret_value()
    if not password or not url or conninfo_to_dict(url).get("password"):
        return settings
    return settings.model_copy(update={"database_url": SecretStr(make_conninfo(url, password=password))})


def _needed(mode: Mode, settings: Settings) -> Iterable[str]:
    if mode == "migrate":
        return ("database_url",)
    if mode == "operate":
        return ("database_url", "secret_key")
    foreign = ("foreign_amqp_url", "foreign_queue") if settings.accept_foreign_mail else ()
    if mode == "dev":
        return ("secret_key", "smtp_url", *foreign)
    mailing = () if settings.role == "api" else ("smtp_url", "mail_from")
    return ("database_url", "secret_key", "public_url", *mailing, *foreign)


def _contradictions(settings: Settings) -> Iterator[str]:
    previous = settings.secret_key_previous
    if previous is not None and previous == settings.secret_key:
        yield "REGSVC_SECRET_KEY_PREVIOUS is REGSVC_SECRET_KEY; it is for the key before that one"
    foreign = settings.foreign_amqp_url
    if foreign is not None and foreign == settings.amqp_url and settings.foreign_queue in _OWN_QUEUES:
        yield "REGSVC_FOREIGN_QUEUE is this system's own queue"
