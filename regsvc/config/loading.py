"""Read and validate the settings of a process. No other module reads the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import (
    SecretStr,
    ValidationError,
)

from regsvc.config.dkim_keys import load_keys
from regsvc.config.environment import is_service_link, read, variable
from regsvc.config.identities.identity_settings import gather_providers, list_fields
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
    processes: int | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Settings:
    """Read and validate the settings of a process.

    Args:
        environ: the environment; the process's own if None.
        mode: what the process will do, which determines the settings it needs. `migrate` reads only the database and
            log settings; `serve` and `check` refuse insecure ones, the others accept them.
        role: part of the program to run; overrides `REGSVC_ROLE`.
        processes: how many of them; overrides `REGSVC_PROCESSES`.
        defaults: values by field name, written as in the environment, for settings that are not set.

    Raises:
        ConfigurationError: names all problems together, without secret values.
    """
    problems: dict[str, str] = {}
    values = (_DEV if mode == "dev" else {}) | dict(defaults or {})
    found = os.environ if environ is None else environ
    families = list_fields(found)
    fields = {*Settings.model_fields, *families} - {"oidc_providers"}
    values |= read(
        found,
        fields=fields,
        secrets=SECRETS | {field for field, secret in families.items() if secret},
        wanted=_MIGRATION if mode == "migrate" else fields,
        problems=problems,
    )
    providers = gather_providers(values, problems)
    if "mail_url" in values and f"{variable('smtp_url')}" not in found:
        values.pop("smtp_url", None)  # a default
    if role is not None:
        values["role"] = role
    if processes is not None:
        values["processes"] = str(processes)
    settings = _with_libpq_password(_with_libpq_service(_validated(values, problems), found), found)
    settings = settings.model_copy(update={"oidc_providers": providers})
    mailed = "mail_url" in values or variable("mail_url") in problems
    lines = [
        *problems.values(),
        *(
            f"{variable(field)} is missing: {Settings.model_fields[field].description}"
            for field in _needed(mode, settings)
            if field not in values
            and variable(field) not in problems
            and not (field == "smtp_url" and mailed)
        ),
        *_contradictions(settings),
    ]
    if mode in {"serve", "check"}:
        lines += settings.refused_insecurities()
    if lines:
        raise ConfigurationError("\n  ".join(["The configuration is invalid:", *lines]))
    if mode == "dev" and not settings.public_url:
        return settings.model_copy(update={"public_url": f"http://localhost:{settings.http_port}"})
    return settings


def find_service_manager(environ: Mapping[str, str] | None = None) -> tuple[str | None, float | None]:
    """Return the socket of the service manager that started this process, and the seconds of its watchdog.

    Either is None where the manager asks for nothing: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of sd_notify(3).
    """
    found = os.environ if environ is None else environ
    micros = found.get("WATCHDOG_USEC", "")
    ours = found.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
    watchdog = int(micros) / 1e6 if micros.isdecimal() and int(micros) > 0 and ours else None
    address = found.get("NOTIFY_SOCKET", "")
    return (address if address[:1] in {"/", "@"} else None), watchdog


def list_service_links(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return variables that look like settings but are ignored, because Kubernetes sets them for its Services."""
    found = os.environ if environ is None else environ
    return sorted(name for name, value in found.items() if is_service_link(name, value))


def _validated(values: Mapping[str, str], problems: dict[str, str]) -> Settings:
    """Return settings from the valid values, and add the others to `problems`, by variable."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        wrong = {str(item["loc"][0]): item["msg"] for item in error.errors(include_input=False)}
    for field, message in wrong.items():
        own = message.removeprefix("Value error, ")
        problems[variable(field)] = f"{variable(field)}{': ' if own == message else ' '}{own}"
    return Settings.model_validate({field: value for field, value in values.items() if field not in wrong})


def _with_libpq_service(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return settings whose database URLs contain the parameters of their libpq service."""
    update: dict[str, SecretStr] = {}
    for field in ("database_url", "database_listen_url"):
        secret: SecretStr | None = getattr(settings, field)
        if secret is not None and secret.get_secret_value():
            update[field] = SecretStr(expand_service(secret.get_secret_value(), environ))
    return settings.model_copy(update=update)


def _with_libpq_password(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return settings whose database URL contains the password that libpq would read from PGPASSWORD.

    So it is checked, and masked in logs, like one in the URL.
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
    legacy = ("foreign_amqp_url", "foreign_queue") if settings.accept_foreign_mail else ()
    if mode == "dev":
        return ("secret_key", "smtp_url", *legacy)
    mailing = () if settings.role == "api" else ("smtp_url", "mail_from")
    return ("database_url", "secret_key", "public_url", *mailing, *legacy)


def _contradictions(settings: Settings) -> Iterator[str]:
    previous = settings.secret_key_previous
    if previous is not None and previous == settings.secret_key:
        yield "REGSVC_SECRET_KEY_PREVIOUS equals REGSVC_SECRET_KEY; set it to the key before a rotation"
    if settings.mail_url is not None and settings.smtp_url.get_secret_value():
        yield "REGSVC_SMTP_URL and REGSVC_MAIL_URL are both set; they are two names for one setting"
    if settings.events_exchange and settings.amqp_url is None:
        yield "REGSVC_EVENTS_EXCHANGE is set without REGSVC_AMQP_URL"
    if settings.hook_before_signup and settings.hook_before_signup_secret is None:
        yield "REGSVC_HOOK_BEFORE_SIGNUP is set without REGSVC_HOOK_BEFORE_SIGNUP_SECRET"
    yield from _mail_contradictions(settings)
    legacy = settings.foreign_amqp_url
    if legacy is not None and legacy == settings.amqp_url and settings.foreign_queue in _OWN_QUEUES:
        yield "REGSVC_FOREIGN_QUEUE is regsvc's own queue"


def _mail_contradictions(settings: Settings) -> Iterator[str]:
    if settings.dkim_key is not None:
        try:
            load_keys(settings.dkim_key.get_secret_value(), settings.dkim_selector)
        except ValueError as error:
            yield f"REGSVC_DKIM_KEY {error}"
    elif settings.dkim_selector:
        yield "REGSVC_DKIM_SELECTOR is set without REGSVC_DKIM_KEY"
    token = (settings.smtp_oauth_token_url, settings.smtp_oauth_client_id, settings.smtp_oauth_client_secret)
    if settings.uses_oauth and not all(token):
        yield (
            "auth=xoauth2 needs REGSVC_SMTP_OAUTH_TOKEN_URL, REGSVC_SMTP_OAUTH_CLIENT_ID and "
            "REGSVC_SMTP_OAUTH_CLIENT_SECRET"
        )
