"""The user's own profile."""

from __future__ import annotations

from quart import Blueprint, Response

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.users.user import User
from regsvc.errors import PreconditionFailedError
from regsvc.flows.account.profile import ProfileBody, change_profile
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request.authentication import authenticate, authenticate_user
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.request.preconditions import entity_tag, is_known, read_if_match
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing
from regsvc.schemas.users import Profile, show_profile

blueprint = Blueprint("me", __name__)


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
)
async def show() -> Response:
    """Show the profile. With `If-None-Match`, answer 304 while it is still that version."""
    _, user = await authenticate_user(get_context())
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
    errors=[PreconditionFailedError, RateLimitedError],
)
async def change() -> Response:
    """Change the profile; with `If-Match`, only if it is still that version (RFC 9110 section 13.1.1)."""
    context = get_context()
    token = await authenticate(context)
    return _answer_user(
        await change_profile(context, get_caller(), token, await read_body(ProfileBody), read_if_match())
    )


def _answer_user(user: User) -> Response:
    return answer(show_profile(user), headers={"ETag": entity_tag(user.version)})
