"""`regsvc dev`: the whole service in one process, with nothing to install or configure.

PostgreSQL comes from a wheel, secrets are generated and kept, mail goes into a Maildir and its links are logged, and
the schema is migrated on start. Settings from the environment take precedence.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
import trio
from pydantic import SecretStr

from regsvc import logs
from regsvc.accounts.address_keys import bring_up
from regsvc.accounts.invitations.letters import InvitationLetter
from regsvc.accounts.registrations.mail_status import Letter
from regsvc.config import loading
from regsvc.config.settings import Settings
from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.logs import mask_email, reveal
from regsvc.logs.streams import say
from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.processes.listeners import open_listeners, show_address
from regsvc.processes.signals import heed_signals
from regsvc.program import report, run_service
from regsvc.roles import DEPENDENT
from regsvc.supervisor import Child, Supervisor

log = structlog.get_logger()

_SECRET_FILE = "secret_key"  # noqa: S105 - a file's name
_MAIL_FOLDER = "mail"
_EMBEDDED = "postgresql:///embedded"  # a placeholder until the embedded server has started


class PortTakenError(RegsvcError):
    """The HTTP port is already in use."""


async def run_dev(data: Path) -> None:
    """Run everything until the first SIGINT or SIGTERM.

    Args:
        data: folder of the database, the secrets and the mailbox; created if missing, readable by its owner only.

    Raises:
        ConfigurationError: another process uses the folder, or the settings are invalid.
        PortTakenError: another program listens on the port.
    """
    logs.configure()  # until the settings are known
    data = make_folder(data)
    secret = keep_secret(data)
    chosen = load_settings(data, secret, database_url=_EMBEDDED)
    logs.configure(format=chosen.log_format, level=chosen.log_level, secrets=chosen.secret_values())
    stopping = trio.Event()
    server = EmbeddedPostgres(data)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(heed_signals, stopping, at_once=server.kill))
        async with _open_database(server, chosen) as chosen:
            await bring_up(chosen.database_url.get_secret_value())
            await run_service(
                chosen,
                announcer=announce,
                dev=True,
                lame_duck=0,  # there is no load balancer to notify
                stopping=stopping,
                on_ready=partial(_welcome, chosen, data),
            )
        nursery.cancel_scope.cancel()
    say("regsvc has stopped.")


def make_folder(data: Path) -> Path:
    """Create the data folder, readable by its owner only, and return its absolute path.

    Raises:
        ConfigurationError: the folder cannot be created or written to.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(data, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigurationError(f"the data folder {data} cannot be used: {error.strerror}") from error
    return data.absolute()


def keep_secret(data: Path) -> str:
    """Return the secret of this data folder, creating it on first use. A crash never leaves a partial secret."""
    path = data / _SECRET_FILE
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    # A link, not a rename: two processes that start together must both use the first one's secret.
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
    return path.read_text(encoding="ascii").strip()


def load_settings(data: Path, secret: str, *, database_url: str) -> Settings:
    """Return the settings of `dev`: environment variables first, then defaults inside the data folder."""
    return loading.load(
        mode="dev",
        role="all",
        defaults={
            "secret_key": secret,
            "database_url": database_url,
            "smtp_url": f"maildir:{data / _MAIL_FOLDER}",
            "mail_from": "regsvc <no-reply@localhost>",
        },
    )


def announce(letter: Letter | InvitationLetter, link: str, code: str) -> None:
    """Log the link and the code (if there is one) of a mail that was sent. Only here are they ever logged."""
    brought = {"link": link, "code": code}
    shown = {name: reveal(text) for name, text in brought.items() if text}
    log.info("mail to be opened", recipient=mask_email(letter.email), **shown)


@asynccontextmanager
async def _open_database(server: EmbeddedPostgres, chosen: Settings) -> AsyncIterator[Settings]:
    """Yield settings with a database: the configured one, or the embedded one, restarted whenever it dies."""
    if chosen.database_url.get_secret_value() != _EMBEDDED:
        _check_port(chosen)
        yield chosen
        return
    async with server.reserved(), trio.open_nursery() as nursery:
        _check_port(chosen)
        keeper = Supervisor([Child("postgresql", server.run, DEPENDENT)], stopping=trio.Event(), hook=report)
        await nursery.start(keeper.run)
        yield chosen.model_copy(update={"database_url": SecretStr(server.conninfo)})
        nursery.cancel_scope.cancel()


def _check_port(chosen: Settings) -> None:
    """Raise PortTakenError before anything starts if the port is in use."""
    try:
        with open_listeners(chosen.http_host, chosen.http_port):
            pass
    except OSError as error:
        where = ", ".join(show_address(host, chosen.http_port) for host in chosen.http_host)
        raise PortTakenError(
            f"cannot listen on {where}: {error.strerror}; set REGSVC_HTTP_PORT to another port"
        ) from error


def _welcome(chosen: Settings, data: Path) -> None:
    """Print the addresses to open."""
    say(
        f"""
  regsvc is ready.

    open     {chosen.public_url}
    mailbox  {chosen.public_url}/dev/mail
    sign up  curl -X POST {chosen.public_url}/api/v1/register \\
               -H 'Content-Type: application/json' \\
               -d '{{"email": "test@example.com", "password": "password123", "name": "Test User"}}'
    mail     {data / _MAIL_FOLDER} (link and code are shown here, too)
    stop     Ctrl-C
"""
    )
