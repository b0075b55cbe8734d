"""Every error as `application/problem+json` (RFC 9457), and the one table that says which status and code it has.

`code` is what a program reads and never changes; `detail` is for people and may; `error` repeats it for clients
from before there were problems.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from quart import Quart, Response, has_request_context, request, websocket
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge, RequestTimeout

from regsvc import errors
from regsvc.accounts.admin import mail_actions, mail_search, user_actions
from regsvc.accounts.limits import idempotency, mail_schedule, rate_limit
from regsvc.accounts.registrations import activation, confirmation, link_preview, registration
from regsvc.accounts.sessions import refresh_token, session
from regsvc.accounts.users import password, user
from regsvc.http.request_id import get_request_id
from regsvc.http.response.json_response import timestamp
from regsvc.security import keys

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field: where (RFC 6901), a stable word, and a sentence."""

    pointer: str
    code: str
    detail: str


class ValidationFailedError(errors.RegsvcError):
    """The request is not what this call takes."""

    def __init__(self, message: str | None = None, *, fields: Sequence[FieldError] = ()) -> None:
        """Args: message: what is wrong as a whole. fields: what is wrong in detail."""
        super().__init__(message)
        self.fields = tuple(fields)


class WeakPasswordError(ValidationFailedError):
    """This password is not accepted."""


class UnsupportedMediaTypeError(errors.RegsvcError):
    """The body has to be JSON, sent as `Content-Type: application/json` in UTF-8."""


class InvalidCredentialsError(errors.RegsvcError):
    """The address or the password is wrong, or the address is not confirmed yet.

    Open the link in the confirmation mail, or ask for a new mail at /api/v1/confirm-email/resend.
    """

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


class PreconditionFailedError(errors.RegsvcError):
    """It was changed meanwhile: read it again."""


class ForbiddenError(errors.RegsvcError):
    """This is for administrators alone."""


class ChildNotFoundError(errors.RegsvcError):
    """This process has no such child."""


class ServingChildError(errors.RegsvcError):
    """This child is answering you: restart the process instead."""


class OriginNotAllowedError(errors.RegsvcError):
    """Pages of this origin may not call this service."""


class ClientNotAllowedError(errors.RegsvcError):
    """This client may not read the metrics (REGSVC_METRICS_ALLOW)."""


@dataclass(frozen=True)
class Kind:
    """How one kind of error is answered."""

    status: HTTPStatus
    code: str


KINDS: dict[type[errors.RegsvcError], Kind] = {
    ValidationFailedError: Kind(HTTPStatus.BAD_REQUEST, "validation_failed"),
    confirmation.TokenInvalidError: Kind(HTTPStatus.BAD_REQUEST, "token_invalid"),
    confirmation.CodeInvalidError: Kind(HTTPStatus.BAD_REQUEST, "code_invalid"),
    InvalidCredentialsError: Kind(HTTPStatus.UNAUTHORIZED, "invalid_credentials"),
    keys.AccessTokenInvalidError: Kind(HTTPStatus.UNAUTHORIZED, "access_token_invalid"),
    refresh_token.RefreshTokenInvalidError: Kind(HTTPStatus.UNAUTHORIZED, "refresh_token_invalid"),
    refresh_token.RefreshTokenReusedError: Kind(HTTPStatus.UNAUTHORIZED, "refresh_token_reused"),
    password.WrongPasswordError: Kind(HTTPStatus.FORBIDDEN, "wrong_password"),
    ForbiddenError: Kind(HTTPStatus.FORBIDDEN, "forbidden"),
    OriginNotAllowedError: Kind(HTTPStatus.FORBIDDEN, "origin_not_allowed"),
    ClientNotAllowedError: Kind(HTTPStatus.FORBIDDEN, "client_not_allowed"),
    registration.RegistrationNotFoundError: Kind(HTTPStatus.NOT_FOUND, "registration_not_found"),
    session.SessionNotFoundError: Kind(HTTPStatus.NOT_FOUND, "session_not_found"),
    user.UserNotFoundError: Kind(HTTPStatus.NOT_FOUND, "user_not_found"),
    ChildNotFoundError: Kind(HTTPStatus.NOT_FOUND, "child_not_found"),
    mail_search.MailNotFoundError: Kind(HTTPStatus.NOT_FOUND, "mail_not_found"),
    confirmation.PasswordNeededError: Kind(HTTPStatus.CONFLICT, "password_needed"),
    confirmation.AlreadyConfirmedError: Kind(HTTPStatus.CONFLICT, "already_confirmed"),
    confirmation.TokenExpiredError: Kind(HTTPStatus.GONE, "token_expired"),
    idempotency.RequestInFlightError: Kind(HTTPStatus.CONFLICT, "request_in_flight"),
    link_preview.TokenVoidError: Kind(HTTPStatus.GONE, "token_void"),
    registration.RegistrationOverError: Kind(HTTPStatus.CONFLICT, "registration_over"),
    mail_actions.MailInHandError: Kind(HTTPStatus.CONFLICT, "mail_in_hand"),
    mail_actions.MailOverError: Kind(HTTPStatus.CONFLICT, "mail_over"),
    user_actions.OwnAccountError: Kind(HTTPStatus.CONFLICT, "own_account"),
    activation.AddressTakenError: Kind(HTTPStatus.CONFLICT, "address_taken"),
    ServingChildError: Kind(HTTPStatus.CONFLICT, "child_serving"),
    user.LastAdminError: Kind(HTTPStatus.CONFLICT, "last_admin"),
    PreconditionFailedError: Kind(HTTPStatus.PRECONDITION_FAILED, "precondition_failed"),
    UnsupportedMediaTypeError: Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
    WeakPasswordError: Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "weak_password"),
    idempotency.IdempotencyKeyReusedError: Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
    rate_limit.RateLimitedError: Kind(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited"),
    mail_schedule.TooSoonError: Kind(HTTPStatus.TOO_MANY_REQUESTS, "too_soon"),
    confirmation.CodeTriesExhaustedError: Kind(HTTPStatus.TOO_MANY_REQUESTS, "code_tries_exhausted"),
    errors.DatabaseUnavailableError: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable"),
    errors.SchemaMismatchError: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "schema_mismatch"),
    keys.SealError: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "signing_keys_sealed"),
    errors.OverloadedError: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded"),
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


def find_kind(error: errors.RegsvcError) -> Kind | None:
    """Return how an error of our own is answered, as its nearest class says; None: nobody thought of it."""
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), None)


async def answer_known(error: errors.RegsvcError) -> Response:
    """Answer an error of our own."""
    kind = find_kind(error)
    if kind is None:
        return await answer_bug(error)
    headers: dict[str, str] = {}
    members: dict[str, object] = {}
    if isinstance(error, errors.UnavailableError | rate_limit.RateLimitedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, mail_schedule.TooSoonError):
        wait = (error.next_at - datetime.now(UTC)).total_seconds()
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
        members["next_resend_at"] = timestamp(error.next_at)
    elif kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "10"
    elif kind.status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = "3600"
    elif kind.status == HTTPStatus.UNAUTHORIZED:
        # RFC 9110 section 11.6.1 wants a challenge with every 401; RFC 6750 section 3 says which.
        headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, keys.AccessTokenInvalidError):
            headers["WWW-Authenticate"] += ' error="invalid_token"'
    fields = error.fields if isinstance(error, ValidationFailedError) else ()
    return problem(kind.status, kind.code, str(error), fields=fields, headers=headers, members=members)


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
    """Have every error of an application answered as a problem."""
    app.register_error_handler(errors.RegsvcError, answer_known)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, answer_bug)
