"""Addresses for measuring: with an account, with a pending sign-up, and with neither."""

from __future__ import annotations

import email
import email.policy
import re
import secrets
import time
from dataclasses import dataclass
from email.message import EmailMessage
from http import HTTPStatus
from pathlib import Path

import pyotp

from regsvc.errors import ConfigurationError
from regsvc.selftest.caller import PREFIX, Caller, Reply

_LINK = re.compile(r"/confirm#t=([A-Za-z0-9._~-]+)")
_PATIENCE = 60.0  # seconds for a mail


@dataclass(frozen=True, repr=False)
class Account:
    """The login of a user."""

    email: str
    password: str


class Addresses:
    """Makes unused addresses, all of one length and in the mailbox of one user.

    Args:
        like: address of which they are variants (`ann+…@example.com`); None for invented ones.
    """

    def __init__(self, like: str | None) -> None:
        self._local, _, self._domain = (like or "selftest@example.com").rpartition("@")
        if not self._local or not self._domain:
            raise ConfigurationError("an address looks like ann@example.com")

    def make(self) -> str:
        """Return the next address."""
        return f"{self._local.partition('+')[0]}+{secrets.token_hex(6)}@{self._domain}"


def register(caller: Caller, address: str, password: str, name: str) -> Reply:
    """Ask for an account, accept the terms of use if there are any, and return the reply."""
    body = {"email": address, "password": password, "name": name}
    reply = caller.call("POST", f"{PREFIX}/register", body | caller.accepted)
    if reply.status == HTTPStatus.UNPROCESSABLE_ENTITY and reply.value.get("code") == "terms_needed":
        caller.accepted = {"terms": reply.value["terms"]["version"]}
        reply = caller.call("POST", f"{PREFIX}/register", body | caller.accepted)
    return reply


def sign_up(caller: Caller, address: str, password: str) -> None:
    """Sign up an address.

    Raises:
        ConfigurationError: the service refuses it.
    """
    reply = register(caller, address, password, "Selftest")
    if reply.status != HTTPStatus.CREATED:
        raise ConfigurationError(f"{address} cannot be signed up: {reply.value.get('detail')}")


def make_account(caller: Caller, address: str, mailbox: Path) -> Account:
    """Sign up an address and open the link mailed to it.

    Args:
        caller: makes the calls.
        address: an address without an account.
        mailbox: the Maildir that receives the service's mail.

    Raises:
        ConfigurationError: no mail arrived, or its link was refused.
    """
    account = Account(address, make_password())
    sign_up(caller, account.email, account.password)
    body = {"token": _wait_token(mailbox, address), "password": account.password}
    reply = caller.call("POST", f"{PREFIX}/confirm-email", body)
    if reply.status != HTTPStatus.OK:
        raise ConfigurationError(f"{address} cannot be confirmed: {reply.value.get('detail')}")
    return account


def add_app(caller: Caller, account: Account) -> None:
    """Add an authenticator app to an account.

    Raises:
        ConfigurationError: the service refuses it.
    """
    reply = caller.call("POST", f"{PREFIX}/login", {"email": account.email, "password": account.password})
    bearer = {"Authorization": f"Bearer {reply.value['access_token']}"}
    caller.call("POST", f"{PREFIX}/me/proof", {"password": account.password}, bearer)
    setup = caller.call("POST", f"{PREFIX}/me/totp", {}, bearer)
    body = {"code": pyotp.TOTP(setup.value["secret"]).now()}
    reply = caller.call("POST", f"{PREFIX}/me/totp/confirm", body, bearer)
    if reply.status != HTTPStatus.OK:
        raise ConfigurationError(f"{account.email} gets no authenticator app: {reply.value.get('detail')}")


def check_account(caller: Caller, account: Account) -> None:
    """Check that an account can log in.

    Raises:
        ConfigurationError: it cannot.
    """
    reply = caller.call("POST", f"{PREFIX}/login", {"email": account.email, "password": account.password})
    if reply.status != HTTPStatus.OK:
        raise ConfigurationError(f"{account.email} cannot log in: {reply.value.get('detail')}")


def make_password() -> str:
    """Return a password that every policy accepts."""
    return secrets.token_urlsafe(24)


def _wait_token(mailbox: Path, address: str) -> str:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for path in (mailbox / "new").glob("*"):
            message = email.message_from_bytes(path.read_bytes(), EmailMessage, policy=email.policy.default)
            text = message.get_body(("plain",)) if message["To"] == address else None
            if text is not None and (found := _LINK.search(text.get_content())):
                return found[1]
        time.sleep(0.05)
    raise ConfigurationError(f"no mail to {address} arrived in {mailbox} within {_PATIENCE:g} s")
