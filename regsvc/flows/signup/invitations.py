"""Invite an address, and accept an invitation."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import structlog
from psycopg.types.json import Jsonb
from pydantic import Field, StringConstraints

from regsvc.accounts.audit.record import By
from regsvc.accounts.invitations import acceptance, invitation
from regsvc.accounts.invitations.acceptance import InvitationInvalidError, NewAccount
from regsvc.config.settings import Settings
from regsvc.errors import FieldError, ValidationFailedError
from regsvc.flows.account.new_password import check_new_password
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import admit
from regsvc.flows.service import Service
from regsvc.flows.signup.policy import TermsText, check_domain, check_signup_open, check_terms
from regsvc.logs import mask_email
from regsvc.mail.message.languages import LOCALES, list_locales
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body, EmailText, NameText, NewPasswordText, TokenText, address_of
from regsvc.security.tokens import read_account_token

log = structlog.get_logger()


class InviteBody(Body):
    """The address to invite, and the language of the mail."""

    email: EmailText
    language: Annotated[
        Annotated[str, StringConstraints(max_length=35)] | None,
        Field(
            json_schema_extra={"enum": [*LOCALES, None]}, description="Of the mail; the inviter's by default."
        ),
    ] = None


class AcceptBody(Body):
    """The link's token, and what the invited person chose."""

    token: TokenText
    name: NameText
    password: NewPasswordText
    terms: TermsText = None


async def invite(conn: Connection, settings: Settings, body: InviteBody, language: str, by: By) -> UUID:
    """Store an invitation and its mail in the caller's transaction, and return its id.

    Whether the address has an account is not looked up. The caller has made sure that the actor may invite.

    Args:
        conn: in a transaction.
        settings: of the service.
        body: the address to invite.
        language: of the mail, if the body names none.
        by: the audit actor.

    Raises:
        SignupClosedError: no accounts are created here.
        DomainNotAllowedError: addresses of its domain are not accepted.
        ValidationFailedError: there is no such language.
    """
    check_signup_open(settings, invited=True)
    address = address_of(body.email)
    check_domain(settings, address)
    locales = list_locales(settings.templates)
    if body.language is not None and body.language not in locales:
        detail = f"One of {', '.join(locales)}."
        raise ValidationFailedError(fields=[FieldError("/language", "unknown_locale", detail)])
    made = await invitation.invite(conn, address, body.language or language, by)
    log.info("invited", invitation=str(made), recipient=mask_email(address.email))
    return made


async def accept(service: Service, caller: Caller, body: AcceptBody) -> UUID:
    """Create the account of an invited person, and return the user's id.

    Raises:
        SignupClosedError: no accounts are created here at the moment.
        TermsNeededError: the present terms are not accepted.
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client tries too many links.
        InvitationInvalidError, InvitationOverError: the link is none of ours, or no longer good.
        WeakPasswordError: the policy says no; the link stays good.
        SignupRefusedError, SignupUnavailableError: see `hook`; the link stays good.
        OverloadedError: too many passwords wait to be hashed.
    """
    check_signup_open(service.settings, invited=True)
    terms = check_terms(service.settings, body.terms)
    await admit(service, caller, "accept")
    token = read_account_token(body.token)
    if token is None:
        raise InvitationInvalidError
    async with service.pool.connection() as conn:
        invited = await acceptance.find_invited(conn, service.secrets, token)
    await check_new_password(service, body.password, email=invited.email, name=body.name)
    app_data = await service.hook.ask(caller, email=invited.email, name=body.name, method="invitation")
    password_hash = await service.lane.hash(body.password, owner=caller.line)
    new = NewAccount(
        body.name, caller.locale, password_hash, terms, None if app_data is None else Jsonb(app_data)
    )
    async with service.pool.transaction() as conn:
        user_id = await acceptance.accept_invitation(conn, service.secrets, token, new, caller.as_anyone())
    log.info("invitation accepted", invitation=str(token.id), user=str(user_id))
    return user_id
