"""Change one's own profile."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, StringConstraints

from regsvc.accounts.audit.record import record
from regsvc.accounts.users.user import User, get_user, update_profile
from regsvc.errors import FieldError, PreconditionFailedError, ValidationFailedError
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import ACCOUNT, throttle_user
from regsvc.flows.service import Service
from regsvc.mail.message.languages import LOCALES, list_locales
from regsvc.schemas.fields import Body, NameText
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError


class ProfileBody(Body):
    """The fields to change; the others stay as they are."""

    name: NameText | None = None
    locale: (
        Annotated[str, StringConstraints(max_length=35), Field(json_schema_extra={"enum": [*LOCALES]})] | None
    ) = None


async def change_profile(
    service: Service,
    caller: Caller,
    token: AccessToken,
    body: ProfileBody,
    versions: Collection[int] | None = None,
) -> User:
    """Change the profile of the token's user and return it.

    Args:
        service: what to work with.
        caller: who asks.
        token: of the user.
        body: what to change.
        versions: those that may be changed; None: any.

    Raises:
        ValidationFailedError: there is no such language.
        PreconditionFailedError: it is of another version.
        RateLimitedError: the user changes too much.
    """
    locales = list_locales(service.settings.templates)
    if body.locale is not None and body.locale not in locales:
        detail = f"One of {', '.join(locales)}."
        raise ValidationFailedError(fields=[FieldError("/locale", "unknown_locale", detail)])
    await throttle_user(service, caller, token, ACCOUNT)
    async with service.pool.transaction() as conn:
        updated = await update_profile(
            conn, token.user_id, name=body.name, locale=body.locale, versions=versions
        )
        if updated is None and await get_user(conn, token.user_id) is None:
            raise AccessTokenInvalidError
        if updated is None:
            raise PreconditionFailedError
        user, changed = updated
        if changed:
            await record(conn, "profile_changed", caller.as_user(token), fields=" ".join(changed))
    return user
