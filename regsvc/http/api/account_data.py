"""Download or delete the data of one's own account."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from pydantic import Field
from quart import Blueprint, Response, request

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.accounts.users.data_export import LISTS
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.accounts.users.user import LastAdminError
from regsvc.errors import OverloadedError
from regsvc.flows.account.account_data import PasswordBody, begin_export, erase_own
from regsvc.flows.login.proof import require_proof
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer_file, empty
from regsvc.schemas.formats import Nothing
from regsvc.schemas.rows import describe_row
from regsvc.schemas.typed_dict import TypedDict
from regsvc.schemas.users import Profile
from regsvc.security.challenge import ChallengeNeededError

log = structlog.get_logger()
blueprint = Blueprint("my_data", __name__)


_make: Any = TypedDict  # its functional form wants a literal, which a derived type cannot give
Export: Any = _make(
    "Export",
    {
        "profile": Profile,
        **{
            each.name: Annotated[
                list[describe_row(each.row, each.row.__name__)],  # type: ignore[misc]
                Field(description=(each.row.__doc__ or "").partition("\n")[0]),
            ]
            for each in LISTS
        },
    },
)
Export.__doc__ = "All data about a user."


@blueprint.get("/me/export")
@documented(
    {200: Export},
    headers={"Content-Disposition": "So that a browser stores it."},
    needs_token=True,
    errors=[ProofNeededError, RateLimitedError, OverloadedError],
)
async def export() -> Response:
    """Download all data about one's own account. The session has to have proved its user, at `POST /api/v1/me/proof`.

    The lists hold the newest 10,000 entries each, and no secrets. The body is sent while it is read: if the database
    goes away, it is cut off and is no valid JSON. `HEAD` writes no audit entry and counts against no limit.
    """
    context = get_context()
    token = await authenticate(context)
    if request.method == "HEAD":  # which writes nothing: neither the audit entry nor a count
        await require_proof(context, get_caller(), token)
        return answer_file("", "account.json")
    return answer_file(await begin_export(context, get_caller(), token), "account.json")


@blueprint.delete("/me")
@documented(
    {204: Nothing},
    body=PasswordBody,
    needs_token=True,
    errors=[
        ProofNeededError,
        WrongPasswordError,
        LastAdminError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def delete() -> Response:
    """Delete one's own account for good, given the password or a proof of the last five minutes.

    Every session ends, and the person is erased: also from mails, from sign-ups that are over, of this address and of
    those it was moved from, and from the audit log. A sign-up of the address that still waits for confirmation lives
    to its end.
    """
    context = get_context()
    await erase_own(
        context, get_caller(), await authenticate(context), await read_body(PasswordBody, optional=True)
    )
    return empty()
