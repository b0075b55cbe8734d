"""The second step of a login."""

from __future__ import annotations

from quart import Blueprint, Response

from regsvc.accounts.factors.methods import FactorInvalidError
from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.factors.pending_logins import MfaTokenInvalidError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.flows.login.second_factor import SecondFactorBody, pass_second_factor
from regsvc.http.api.login import Tokens, answer_grant
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.security.signing.access_token import SealError

blueprint = Blueprint("second_factor", __name__)


@blueprint.post("/login/second-factor")
@documented(
    {200: Tokens},
    body=SecondFactorBody,
    errors=[FactorInvalidError, MfaTokenInvalidError, PasskeyExpiredError, RateLimitedError, SealError],
)
async def pass_second() -> Response:
    """Complete a login whose first step was answered with 401 `second_factor_required`.

    Give the `mfa_token` of that answer and one of the factors that its `methods` name. The token is good for five
    minutes, five attempts and one success: then 401 `mfa_token_invalid`, and the login begins again. A wrong or used
    factor is 401 `second_factor_invalid`. After ten wrong factors of an account within an hour, clients that it does
    not know wait; after a hundred within a day, six-digit codes are refused for every client: 429 `rate_limited`.

    An `assertion` answers the options of `POST /api/v1/login/passkey/options`.
    """
    context = get_context()
    body = await read_body(SecondFactorBody)
    return await answer_grant(context, await pass_second_factor(context, get_caller(), body))
