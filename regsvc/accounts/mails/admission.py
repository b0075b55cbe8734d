"""Which login codes are sent past the schedule of their address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from regsvc.accounts.limits.login_attempts import is_known
from regsvc.accounts.registrations.mail_status import Letter
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets


async def admit_known(conn: Connection, secrets: Secrets, letters: Sequence[Letter]) -> list[Letter]:
    """Admit the login codes asked for where the address's owner has logged in before, and return all letters.

    Strangers' requests for codes of that address do not hold them up. The schedule of the owner's own client still
    does. Whether there is an account has no part in it: one without has no known client.
    """
    return [
        replace(letter, admitted=True)
        if letter.is_login and await is_known(conn, secrets, letter.email_key, letter.origin)
        else letter
        for letter in letters
    ]
