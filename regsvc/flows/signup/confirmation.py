"""Confirm an address by the link or the code of its mail, or report that the sign-up was not yours."""

from __future__ import annotations

from uuid import UUID

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.factors.passkey_challenges import take_challenge
from regsvc.accounts.registrations import confirmation, link_preview
from regsvc.accounts.registrations.confirmation_code import (
    CodeInvalidError,
    CodeTriesExhaustedError,
    read_code,
    try_code,
)
from regsvc.accounts.registrations.link_preview import Preview
from regsvc.flows.caller import Caller
from regsvc.flows.factors.passkey_answers import verify_with
from regsvc.flows.rate_limits import CONFIRM, throttle
from regsvc.flows.service import Service
from regsvc.schemas.fields import Body, PasswordText, TokenText
from regsvc.schemas.passkeys import AssertedPasskey
from regsvc.security.passkeys.client_data import read_challenge, reading_answer
from regsvc.security.passkeys.encoding import decode_bytes
from regsvc.security.password_tags import password_tags
from regsvc.security.tokens import LinkToken, handle_matches, read_link_token

log = structlog.get_logger()


class ConfirmBody(Body):
    """The link's token and, where it does not suffice, the password or an assertion of the passkey of one sign-up."""

    token: TokenText
    password: PasswordText | None = None
    assertion: AssertedPasskey | None = None


async def confirm_by_link(service: Service, caller: Caller, body: ConfirmBody, handle: str) -> None:
    """Confirm an address by the token of its link.

    Args:
        service: what to work with.
        caller: who presses the link.
        body: what the link and its page bring.
        handle: the secret that the sign-up answered with, if the caller has it; it chooses one of several attempts.

    Raises:
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client tries too many links.
        TokenInvalidError, TokenExpiredError: the link is none of ours, or no longer good.
        PasswordNeededError: several sign-ups wait for the address, or one without a password, and nothing says which
            is meant.
        PasskeyInvalidError, PasskeyExpiredError: the assertion is not valid, or its challenge no longer is.
        OverloadedError: too many passwords wait to be verified.
    """
    token = read_token(body.token)
    # Without a password nothing is hashed.
    await throttle(service, caller, CONFIRM, purpose=None if body.password is None else "confirm")
    async with service.pool.connection() as conn:
        await confirmation.check_link(conn, service.secrets, token)
    chosen = None
    if body.password is not None:
        chosen = await _find_attempt(service, caller, token, body.password)
    elif body.assertion is not None:
        chosen = await _find_asserted(service, token, body.assertion)
    async with service.pool.transaction() as conn:
        changed = await confirmation.confirm_by_link(
            conn,
            service.secrets,
            token,
            chosen=chosen,
            has_handle=handle_matches(service.secrets, token.registration_id, handle),
            password_required=service.settings.confirm_requires_password,
            by=caller.as_anyone(),
        )
    if changed:
        log.info("address confirmed", registration=str(chosen or token.registration_id), by="link")


async def confirm_by_code(service: Service, caller: Caller, known: UUID, code: str) -> None:
    """Confirm a registration by its code.

    Args:
        service: what to work with.
        caller: who typed the code.
        known: the registration, whose handle has been checked.
        code: as typed or pasted.

    Raises:
        RateLimitedError: this client tries too much.
        CodeInvalidError: it is wrong, or has not six digits, which costs no attempt.
        CodeTriesExhaustedError: this code, or this sign-up, was tried too often.
        TokenExpiredError: the sign-up is over.
    """
    await throttle(service, caller, CONFIRM)
    digits = read_code(code)
    if digits is None:
        raise CodeInvalidError  # a slip, not a guess
    async with service.pool.transaction() as conn:
        outcome = await try_code(conn, service.secrets, known, digits, caller.as_anyone())
    match outcome:
        case "wrong":
            raise CodeInvalidError
        case "exhausted":
            raise CodeTriesExhaustedError
        case "expired":
            raise confirmation.TokenExpiredError
    log.info("address confirmed", registration=str(known), by="code")


async def preview_link(service: Service, caller: Caller, token: str) -> Preview:
    """Return which sign-up a link would confirm, and change nothing.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, TokenExpiredError, TokenVoidError: the link is none of ours, or no longer good.
    """
    await throttle(service, caller, CONFIRM)
    async with service.pool.connection() as conn:
        return await link_preview.preview_link(conn, service.secrets, read_token(token))


async def repudiate(service: Service, caller: Caller, text: str) -> None:
    """Void the sign-up that a link is about: the reader of the mail says that it was not theirs.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, TokenExpiredError: the link is none of ours, or no longer good.
        AlreadyConfirmedError: the sign-up has become an account.
    """
    token = read_token(text)
    await throttle(service, caller, CONFIRM)
    async with service.pool.transaction() as conn:
        changed = await confirmation.repudiate(conn, service.secrets, token)
        if changed:
            await record(
                conn, "registration_repudiated", caller.as_anyone(), registration=str(token.registration_id)
            )
    if changed:
        log.info("registration repudiated", registration=str(token.registration_id))


def read_token(text: str) -> LinkToken:
    """Return the token of a link.

    Raises:
        TokenInvalidError: the text is none.
    """
    token = read_link_token(text)
    if token is None:
        raise confirmation.TokenInvalidError
    return token


async def _find_attempt(service: Service, caller: Caller, token: LinkToken, password: str) -> UUID | None:
    """Return the live attempt that was made with this password; None when no attempt could have been.

    Raises:
        PasswordNeededError: no attempt was.
    """
    async with service.pool.connection() as conn:
        candidates = await confirmation.list_candidates(conn, service.secrets, token)
    if not candidates:
        return None
    tagged = [
        it
        for it in candidates
        if it.password_tag is None or it.password_tag in password_tags(service.secrets, it.id, password)
    ]
    for candidate in tagged:
        if (await service.lane.verify(password, candidate.password_hash, owner=caller.line)).ok:
            return candidate.id
    if not tagged:
        await service.lane.verify(
            password, None, owner=caller.line
        )  # a wrong password takes as long as a right one
    async with service.pool.connection() as conn:
        raise await confirmation.explain_needed(conn, service.secrets, token)


async def _find_asserted(service: Service, token: LinkToken, body: AssertedPasskey) -> UUID | None:
    """Return the live attempt that was made with the passkey of an assertion; None when the address is confirmed.

    Raises:
        PasswordNeededError: no attempt was.
        PasskeyInvalidError, PasskeyExpiredError: the assertion is not valid, or its challenge no longer is.
    """
    challenge = read_challenge(body.response.clientDataJSON)
    with reading_answer():
        credential_id = decode_bytes(body.id)
    async with service.pool.connection() as conn:
        await take_challenge(conn, challenge, "login")
        key = await confirmation.find_key(conn, service.secrets, token, credential_id)
    if key is None:
        return None
    verify_with(service, body, challenge, key.public_key, key.user_id)
    return key.registration_id
