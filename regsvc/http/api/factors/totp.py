"""The authenticator app of one's own account, and its recovery codes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from quart import Blueprint, Response

from regsvc.accounts.factors.totp import (
    TotpCodeInvalidError,
    TotpMissingError,
    TotpNotBegunError,
    find_totp,
)
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.flows.factors.authenticator import (
    TotpCodeBody,
    begin_totp,
    confirm_totp,
    remove_totp,
    renew_codes,
)
from regsvc.flows.factors.qr_code import draw_qr_code
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict

blueprint = Blueprint("totp", __name__)


class TotpSetup(TypedDict):
    """What an authenticator app needs, shown once."""

    secret: Annotated[str, Field(description="The shared secret, in base32, to type into an app.")]
    uri: Annotated[str, Field(description="The same as an `otpauth:` URI.")]
    qr_svg: Annotated[str, Field(description="That URI as a QR code, an SVG image.")]


class TotpInUse(TypedDict):
    """The authenticator app in use."""

    created_at: Timestamp
    recovery_codes: Annotated[int, Field(description="Number of recovery codes that are left.")]


class RecoveryCodes(TypedDict):
    """The recovery codes, shown once. Each is good once."""

    recovery_codes: list[str]


@blueprint.get("/me/totp")
@documented({200: TotpInUse}, needs_token=True, errors=[TotpMissingError])
async def show() -> Response:
    """Return since when an authenticator app is in use, and how many recovery codes are left."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        found = await find_totp(conn, token.user_id)
    if found is None:
        raise TotpMissingError
    shown: TotpInUse = {"created_at": timestamp(found.created_at), "recovery_codes": found.recovery_codes}
    return answer(shown)


@blueprint.post("/me/totp")
@documented({200: TotpSetup}, needs_token=True, errors=[ProofNeededError, RateLimitedError])
async def begin() -> Response:
    """Begin to set up an authenticator app (TOTP, RFC 6238: SHA-1, six digits, 30 seconds).

    The secret waits 15 minutes for its first code, given by the same session. An app that is in use stays in use until
    then, and is replaced.
    """
    context = get_context()
    setup, uri = await begin_totp(context, get_caller(), await authenticate(context))
    shown: TotpSetup = {"secret": setup.secret, "uri": uri, "qr_svg": draw_qr_code(uri)}
    return answer(shown)


@blueprint.post("/me/totp/confirm")
@documented(
    {200: RecoveryCodes},
    body=TotpCodeBody,
    needs_token=True,
    errors=[TotpCodeInvalidError, TotpNotBegunError, RateLimitedError],
)
async def confirm() -> Response:
    """Put the app into use by its first code. Every later login needs a second factor.

    The answer has ten recovery codes, which are not shown again. The user is notified by email.
    """
    context = get_context()
    token = await authenticate(context)
    shown: RecoveryCodes = {
        "recovery_codes": await confirm_totp(context, get_caller(), token, await read_body(TotpCodeBody))
    }
    return answer(shown)


@blueprint.delete("/me/totp")
@documented({204: Nothing}, needs_token=True, errors=[TotpMissingError, ProofNeededError, RateLimitedError])
async def remove() -> Response:
    """Remove the authenticator app and the recovery codes. The user is notified by email."""
    context = get_context()
    await remove_totp(context, get_caller(), await authenticate(context))
    return empty()


@blueprint.post("/me/recovery-codes")
@documented(
    {200: RecoveryCodes}, needs_token=True, errors=[TotpMissingError, ProofNeededError, RateLimitedError]
)
async def renew() -> Response:
    """Make ten new recovery codes. The old ones stop working, and the user is notified by email."""
    context = get_context()
    token = await authenticate(context)
    shown: RecoveryCodes = {"recovery_codes": await renew_codes(context, get_caller(), token)}
    return answer(shown)
