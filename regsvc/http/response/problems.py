"""Every error as `application/problem+json` (RFC 9457), and the one table that says which status and code it has.

`code` is what a program reads and never changes; `detail` is for people and may; `error` repeats it for clients
from before there were problems.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from quart import Quart, Response, has_request_context, request, websocket
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge, RequestTimeout

from regsvc import errors
from regsvc.accounts.admin import mail_actions, mail_search, user_actions
from regsvc.accounts.deliveries import suppression
from regsvc.accounts.events import replay, webhooks
from regsvc.accounts.factors import methods, passkey_challenges, passkeys, pending_logins, totp, ways_in
from regsvc.accounts.identities import identity, login_codes
from regsvc.accounts.invitations import acceptance, invitation
from regsvc.accounts.limits import idempotency, mail_schedule, rate_limit
from regsvc.accounts.registrations import (
    activation,
    confirmation,
    confirmation_code,
    link_preview,
    login_code,
    registration,
)
from regsvc.accounts.sessions import proof, refresh_token, session
from regsvc.accounts.users import email_change, password, user
from regsvc.errors import (
    FieldError,
    InvalidCredentialsError,
    PreconditionFailedError,
    ValidationFailedError,
    WeakPasswordError,
)
from regsvc.flows.identities import arrival, departure, settling
from regsvc.flows.signup import hook, policy
from regsvc.http.feedback.certificates import SnsUnavailableError
from regsvc.http.request_id import get_request_id
from regsvc.http.response.errors import (
    ChildNotFoundError,
    ClientNotAllowedError,
    ContentCodingError,
    ForbiddenError,
    FormNeededError,
    InsufficientScopeError,
    OriginNotAllowedError,
    ServingChildError,
    UnsupportedMediaTypeError,
)
from regsvc.http.websocket_limits import TooManyWaitingError
from regsvc.mail.reports import report
from regsvc.schemas.formats import timestamp
from regsvc.security import challenge
from regsvc.security.feedback import signatures
from regsvc.security.identities.errors import IdentityRefusedError, ProviderUnavailableError
from regsvc.security.passkeys import client_data
from regsvc.security.signing import access_token

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STATUSES: dict[type[errors.RegsvcError], HTTPStatus] = {
    ValidationFailedError: HTTPStatus.BAD_REQUEST,
    acceptance.InvitationInvalidError: HTTPStatus.BAD_REQUEST,
    confirmation.TokenInvalidError: HTTPStatus.BAD_REQUEST,
    confirmation_code.CodeInvalidError: HTTPStatus.BAD_REQUEST,
    report.ReportUnreadableError: HTTPStatus.BAD_REQUEST,
    client_data.PasskeyInvalidError: HTTPStatus.BAD_REQUEST,
    passkeys.PasskeyUnknownError: HTTPStatus.UNAUTHORIZED,
    passkeys.PasskeyUnconfirmedError: HTTPStatus.UNAUTHORIZED,
    passkey_challenges.PasskeyExpiredError: HTTPStatus.GONE,
    passkeys.PasskeyNotFoundError: HTTPStatus.NOT_FOUND,
    passkeys.PasskeyKnownError: HTTPStatus.CONFLICT,
    passkeys.TooManyPasskeysError: HTTPStatus.CONFLICT,
    signatures.FeedbackSignatureError: HTTPStatus.UNAUTHORIZED,
    InvalidCredentialsError: HTTPStatus.UNAUTHORIZED,
    access_token.AccessTokenInvalidError: HTTPStatus.UNAUTHORIZED,
    refresh_token.RefreshTokenInvalidError: HTTPStatus.UNAUTHORIZED,
    refresh_token.RefreshTokenReusedError: HTTPStatus.UNAUTHORIZED,
    pending_logins.SecondFactorRequiredError: HTTPStatus.UNAUTHORIZED,
    pending_logins.MfaTokenInvalidError: HTTPStatus.UNAUTHORIZED,
    methods.FactorInvalidError: HTTPStatus.UNAUTHORIZED,
    password.WrongPasswordError: HTTPStatus.FORBIDDEN,
    policy.SignupClosedError: HTTPStatus.FORBIDDEN,
    policy.InvitationNeededError: HTTPStatus.FORBIDDEN,
    totp.TotpCodeInvalidError: HTTPStatus.BAD_REQUEST,
    totp.TotpNotBegunError: HTTPStatus.CONFLICT,
    totp.TotpMissingError: HTTPStatus.NOT_FOUND,
    proof.WrongCodeError: HTTPStatus.FORBIDDEN,
    proof.ProofNeededError: HTTPStatus.FORBIDDEN,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    InsufficientScopeError: HTTPStatus.FORBIDDEN,
    OriginNotAllowedError: HTTPStatus.FORBIDDEN,
    ClientNotAllowedError: HTTPStatus.FORBIDDEN,
    arrival.FlowStateInvalidError: HTTPStatus.BAD_REQUEST,
    arrival.ProviderDeclinedError: HTTPStatus.BAD_REQUEST,
    departure.ReturnNotAllowedError: HTTPStatus.BAD_REQUEST,
    login_codes.LoginCodeInvalidError: HTTPStatus.BAD_REQUEST,
    IdentityRefusedError: HTTPStatus.UNAUTHORIZED,
    departure.ProviderNotFoundError: HTTPStatus.NOT_FOUND,
    identity.IdentityNotFoundError: HTTPStatus.NOT_FOUND,
    identity.IdentityTakenError: HTTPStatus.CONFLICT,
    ways_in.LastWayInError: HTTPStatus.CONFLICT,
    identity.TooManyIdentitiesError: HTTPStatus.CONFLICT,
    settling.LocalLoginNeededError: HTTPStatus.CONFLICT,
    settling.AddressMissingError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ProviderUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    registration.RegistrationNotFoundError: HTTPStatus.NOT_FOUND,
    session.SessionNotFoundError: HTTPStatus.NOT_FOUND,
    user.UserNotFoundError: HTTPStatus.NOT_FOUND,
    invitation.InvitationNotFoundError: HTTPStatus.NOT_FOUND,
    ChildNotFoundError: HTTPStatus.NOT_FOUND,
    mail_search.MailNotFoundError: HTTPStatus.NOT_FOUND,
    suppression.SuppressionNotFoundError: HTTPStatus.NOT_FOUND,
    webhooks.WebhookNotFoundError: HTTPStatus.NOT_FOUND,
    replay.DeliveryNotFoundError: HTTPStatus.NOT_FOUND,
    webhooks.TooManyWebhooksError: HTTPStatus.CONFLICT,
    webhooks.WebhookNotInUseError: HTTPStatus.CONFLICT,
    confirmation.PasswordNeededError: HTTPStatus.CONFLICT,
    email_change.EmailChangeUnprovedError: HTTPStatus.CONFLICT,
    confirmation.AlreadyConfirmedError: HTTPStatus.CONFLICT,
    confirmation.TokenExpiredError: HTTPStatus.GONE,
    invitation.InvitationOverError: HTTPStatus.GONE,
    idempotency.RequestInFlightError: HTTPStatus.CONFLICT,
    link_preview.TokenVoidError: HTTPStatus.GONE,
    registration.RegistrationOverError: HTTPStatus.CONFLICT,
    mail_actions.MailInHandError: HTTPStatus.CONFLICT,
    mail_actions.MailOverError: HTTPStatus.CONFLICT,
    user_actions.OwnAccountError: HTTPStatus.CONFLICT,
    activation.AddressTakenError: HTTPStatus.CONFLICT,
    ServingChildError: HTTPStatus.CONFLICT,
    user.LastAdminError: HTTPStatus.CONFLICT,
    PreconditionFailedError: HTTPStatus.PRECONDITION_FAILED,
    UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    FormNeededError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    WeakPasswordError: HTTPStatus.UNPROCESSABLE_ENTITY,
    policy.DomainNotAllowedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    policy.TermsNeededError: HTTPStatus.UNPROCESSABLE_ENTITY,
    idempotency.IdempotencyKeyReusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    challenge.ChallengeNeededError: HTTPStatus.PRECONDITION_REQUIRED,
    rate_limit.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    mail_schedule.TooSoonError: HTTPStatus.TOO_MANY_REQUESTS,
    confirmation_code.CodeTriesExhaustedError: HTTPStatus.TOO_MANY_REQUESTS,
    login_code.LoginCodeTriesExhaustedError: HTTPStatus.TOO_MANY_REQUESTS,
    TooManyWaitingError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DatabaseUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SchemaMismatchError: HTTPStatus.SERVICE_UNAVAILABLE,
    access_token.SealError: HTTPStatus.SERVICE_UNAVAILABLE,
    SnsUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    hook.SignupRefusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hook.SignupUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Our own errors. Anything else that is raised is a bug: 500 `internal_error`, and its traceback in the log."""

_HTTP_CODES = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
}


def problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    fields: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> Response:
    """Return a problem as an answer, also to a request for a websocket."""
    connection = request if has_request_context() else websocket
    body: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "instance": connection.path,
        "code": code,
        "error": detail,
        "request_id": get_request_id(),
    }
    body |= members or {}
    if fields:
        body["errors"] = [asdict(field) for field in fields]
    answer = Response(json.dumps(body), status=status.value, content_type=MEDIA_TYPE, headers=headers or {})
    answer.headers["Cache-Control"] = "no-store"
    return answer


def find_status(error: errors.RegsvcError) -> HTTPStatus | None:
    """Return the status of one of our errors, from the nearest class in the table; None if no class is in it."""
    return next((STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES), None)


async def answer_known(error: errors.RegsvcError) -> Response:
    """Answer an error of our own."""
    status = find_status(error)
    if status is None:
        return await answer_bug(error)
    headers: dict[str, str] = {}
    members: dict[str, object] = dict(error.members)
    if isinstance(error, errors.UnavailableError | rate_limit.RateLimitedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, mail_schedule.TooSoonError):
        wait = (error.next_at - datetime.now(UTC)).total_seconds()
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
        members["next_resend_at"] = timestamp(error.next_at)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "10"
    elif isinstance(error, TooManyWaitingError):
        headers["Retry-After"] = "5"
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = "3600"
    elif (challenge := _find_challenge(error, status)) is not None:
        headers["WWW-Authenticate"] = challenge
    if isinstance(error, ContentCodingError):
        headers["Accept-Encoding"] = "identity"  # RFC 9110, 15.5.16
    fields = error.fields if isinstance(error, ValidationFailedError) else ()
    return problem(status, error.code, str(error), fields=fields, headers=headers, members=members)


def _find_challenge(error: errors.RegsvcError, status: HTTPStatus) -> str | None:
    """Return how to authenticate: RFC 9110 section 11.6.1 wants it with every 401; RFC 6750 section 3 says which."""
    if isinstance(error, InsufficientScopeError):
        return f'Bearer error="insufficient_scope", scope="{error.scope}"'
    if status != HTTPStatus.UNAUTHORIZED:
        return None
    if isinstance(error, access_token.AccessTokenInvalidError) and _brings_token():
        return 'Bearer error="invalid_token"'
    return "Bearer"


def _brings_token() -> bool:
    """Return whether the request has a bearer token; one without is told no error (RFC 6750, 3.1)."""
    connection = request if has_request_context() else websocket
    return connection.headers.get("Authorization", "").lower().startswith("bearer ")


async def answer_http(error: HTTPException) -> Response:
    """Answer an error that the framework raised: no such path, method or the like."""
    status = HTTPStatus(error.code or 500)
    headers: dict[str, str] = {}
    detail = error.description or status.description
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
        detail = f"This path takes {headers['Allow']}."
    elif status == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this path."
    elif isinstance(error, RequestEntityTooLarge):
        detail = "The body is larger than 16 KiB."
    elif isinstance(error, RequestTimeout):
        detail = "The body did not arrive in time."
    return problem(status, _HTTP_CODES.get(status, "http_error"), detail, headers=headers)


async def answer_bug(error: Exception) -> Response:
    """Answer what should not have happened; the client learns the request's id, the log everything else."""
    log.error("request failed", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong on our side. The request's id helps to find out what.",
    )


def register_error_handlers(app: Quart) -> None:
    """Register handlers that answer every error as a problem."""
    app.register_error_handler(errors.RegsvcError, answer_known)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, answer_bug)
