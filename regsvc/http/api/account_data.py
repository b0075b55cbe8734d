"""Download or delete the data of one's own account."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from pydantic import Field
from quart import Blueprint, Response, request

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.accounts.users.data_export import (
    MOST,
)
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
from regsvc.schemas.formats import Id, Nothing, Timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.schemas.users import Profile
from regsvc.security.challenge import ChallengeNeededError

log = structlog.get_logger()
blueprint = Blueprint("my_data", __name__)


class ExportedAppData(TypedDict):
    """What the service's own program added to the sign-up."""

    app_data: dict[str, Any]


class ExportedTerms(TypedDict):
    """The terms of use that the user accepted last."""

    version: str
    accepted_at: Timestamp | None


class ExportedSession(TypedDict):
    """A session, alive or not."""

    id: Id
    origin: str
    client: str
    created_at: Timestamp
    last_used_at: Timestamp
    expires_at: Timestamp
    ended_at: Timestamp | None
    ended_reason: str | None


class ExportedIdentity(TypedDict):
    """An identity at a provider, by which the user can log in."""

    provider: str
    issuer: str
    subject: str
    email: str
    created_at: Timestamp
    last_used_at: Timestamp | None


class ExportedPasskey(TypedDict):
    """A passkey; its key is of use to this service alone."""

    id: Id
    name: str
    synced: bool
    created_at: Timestamp
    last_used_at: Timestamp | None


class ExportedRegistration(TypedDict):
    """A sign-up attempt for the address, by any client."""

    id: Id
    state: str
    origin: str
    client: str
    terms: str | None
    created_at: Timestamp
    changed_at: Timestamp


class ExportedApp(TypedDict):
    """The authenticator app, without its secret, and the number of recovery codes that are left."""

    created_at: Timestamp
    recovery_codes: int


class ExportedInvitation(TypedDict):
    """An invitation of the address."""

    created_at: Timestamp
    expires_at: Timestamp
    accepted_at: Timestamp | None
    revoked_at: Timestamp | None


class ExportedEmailChange(TypedDict):
    """An email change."""

    old_email: str
    new_email: str
    state: str
    asked_at: Timestamp
    done_at: Timestamp | None


class ExportedMail(TypedDict):
    """A mail to the address, or asked for by it."""

    id: Id
    kind: str
    sent_as: str | None
    state: str
    created_at: Timestamp
    sent_at: Timestamp | None


class ExportedEvent(TypedDict):
    """What happened to the account."""

    at: Timestamp
    event: str
    actor: str
    origin: str | None
    client: str | None
    details: dict[str, Any]


class Export(TypedDict):
    """All data about a user."""

    profile: Profile
    terms: Annotated[list[ExportedTerms], Field(description=f"Of each list, the newest {MOST}.")]
    app_data: Annotated[list[ExportedAppData], Field(description="What this service added to the sign-up.")]
    sessions: list[ExportedSession]
    identities: list[ExportedIdentity]
    passkeys: list[ExportedPasskey]
    registrations: list[ExportedRegistration]
    authenticator_apps: list[ExportedApp]
    invitations: list[ExportedInvitation]
    moves: list[ExportedEmailChange]
    mails: list[ExportedMail]
    events: list[ExportedEvent]


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
