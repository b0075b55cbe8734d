"""One's own profile."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, StringConstraints
from quart import Blueprint, Response

from regsvc.accounts.audit.record import record
from regsvc.accounts.users.user import User, get_user, update_profile
from regsvc.errors import DatabaseUnavailableError, FieldError, PreconditionFailedError, ValidationFailedError
from regsvc.http.api.login import authenticate
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request.actor import by_user
from regsvc.http.request.body import read_body
from regsvc.http.request.preconditions import entity_tag, is_known, read_if_match
from regsvc.http.response.json_response import answer, empty
from regsvc.mail.message.languages import LOCALES
from regsvc.schemas.fields import Body, NameText
from regsvc.schemas.formats import Nothing
from regsvc.schemas.users import Profile, show_profile
from regsvc.security.keys import AccessToken, AccessTokenInvalidError

blueprint = Blueprint("me", __name__)


class ProfileBody(Body):
    """What to change; what is not given stays."""

    name: NameText | None = None
    locale: (
        Annotated[str, StringConstraints(max_length=35), Field(json_schema_extra={"enum": [*LOCALES]})] | None
    ) = None


_ETAG = {"ETag": "The version of the profile."}
_IF_MATCH = Parameter("If-Match", "The `ETag` of the version to change, several, or `*`.")
_IF_NONE_MATCH = Parameter(
    "If-None-Match", "The `ETag` of the version that is known: 304 if it is still that."
)


@blueprint.get("/me")
@documented(
    {200: Profile, 304: Nothing},
    parameters=[_IF_NONE_MATCH],
    headers=_ETAG,
    needs_token=True,
    errors=[DatabaseUnavailableError],
)
async def show() -> Response:
    """Show the profile."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        user = await get_user(conn, token.user_id)
    if user is None:
        raise AccessTokenInvalidError
    if is_known(user.version):
        unchanged = empty(304)
        unchanged.headers["ETag"] = entity_tag(user.version)
        return unchanged
    return _answer_user(user)


@blueprint.patch("/me")
@documented(
    {200: Profile},
    body=ProfileBody,
    parameters=[_IF_MATCH],
    headers=_ETAG,
    needs_token=True,
    errors=[PreconditionFailedError, DatabaseUnavailableError],
)
async def change() -> Response:
    """Change the profile; with `If-Match`, only if nobody else did meanwhile (RFC 9110 section 13.1.1)."""
    context = get_context()
    token = await authenticate(context)
    return _answer_user(await change_profile(context, token, await read_body(ProfileBody), read_if_match()))


async def change_profile(
    context: Context, token: AccessToken, body: ProfileBody, versions: Collection[int] | None = None
) -> User:
    """Change one's profile and return it.

    Args:
        context: what to work with.
        token: of whoever it is.
        body: what to change.
        versions: those that may be changed; None: any.

    Raises:
        ValidationFailedError: there is no such language.
        PreconditionFailedError: it is of another version.
    """
    if body.locale is not None and body.locale not in LOCALES:
        detail = f"One of {', '.join(LOCALES)}."
        raise ValidationFailedError(fields=[FieldError("/locale", "unknown_locale", detail)])
    async with context.pool.transaction() as conn:
        user = await update_profile(
            conn, token.user_id, name=body.name, locale=body.locale, versions=versions
        )
        if user is None and await get_user(conn, token.user_id) is None:
            raise AccessTokenInvalidError
        if user is None:
            raise PreconditionFailedError
        if body.model_fields_set:
            await record(
                conn, "profile_changed", by_user(token), fields=" ".join(sorted(body.model_fields_set))
            )
    return user


def _answer_user(user: User) -> Response:
    return answer(show_profile(user), headers={"ETag": entity_tag(user.version)})
