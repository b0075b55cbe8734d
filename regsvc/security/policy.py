"""The operator's policy for new passwords."""

from __future__ import annotations

from collections.abc import Container
from urllib.parse import urlsplit

import trio

from regsvc.config.settings import Settings
from regsvc.security.common_passwords import load_common_passwords
from regsvc.security.password_rules import Weakness, check_password


async def find_weaknesses(settings: Settings, password: str, *, email: str, name: str) -> list[Weakness]:
    """Return the policy's objections to a new password; none if it is accepted.

    The first call under `strict` reads the list of common passwords in a thread, which takes about a second.

    Args:
        settings: the policy, and the names of the service, which guessing tools try first.
        password: as typed.
        email: email address of the account.
        name: name of the account.
    """
    common: Container[str] = frozenset()
    match settings.password_policy:
        case "strict":
            common = await trio.to_thread.run_sync(load_common_passwords)
    return check_password(
        settings.password_policy,
        password,
        email=email,
        name=name,
        service=f"{settings.brand_name} {urlsplit(settings.public_url).hostname or ''}",
        common=common,
    )
