"""Request the confirmation mail again, or at another address.

Nothing here looks up whether an attempt waits for the mail. The request is stored, and decided when its mail is
claimed. What is shown, the time of the next request, depends only on what this client typed before.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import structlog

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.idempotency import Once, claim_once
from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import Limit, RateLimitedError, demand, take_permits
from regsvc.accounts.registrations import registration
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import admit
from regsvc.flows.service import Service
from regsvc.flows.signup.policy import check_domain
from regsvc.logs import mask_email
from regsvc.mail.queue import jobs
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body, EmailText

log = structlog.get_logger()

_ONCE_MORE = Limit("once-more", quota=1, seconds=86_400)


class AddressBody(Body):
    """The corrected address."""

    email: EmailText


async def ask_again(
    service: Service, caller: Caller, address: Address, wanted: UUID | None, once: Once | None = None
) -> datetime | None:
    """Queue another mail to an address, and return when the next one may be requested.

    Args:
        service: what to work with.
        caller: who asks.
        address: where it goes, if a sign-up waits for it.
        wanted: the registration that is meant, whose handle the caller has checked.
        once: by what the request is known when it comes again: one mail is booked for both.

    Raises:
        IdempotencyKeyReusedError, RequestInFlightError: see `claim_once`.
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client asks for too many.
        TooSoonError: the schedule says no.
    """
    await admit(service, caller, "resend")
    turn = (
        mail_schedule.registration_key(service.secrets, wanted)
        if wanted
        else mail_schedule.client_key(service.secrets, address.key, caller.origin)
    )
    mail_id = uuid4()
    insists = wanted is not None and await _may_insist(service, caller, address)
    async with service.pool.transaction() as conn:
        if await claim_once(conn, once, mail_id) == mail_id:
            await take_turn(conn, caller, turn)
            await jobs.add_resend(conn, mail_id, address.key, wanted=wanted, insists=insists)
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("mail asked for again", mail=str(mail_id), recipient=mask_email(address.email))
    return turns.get(turn)


async def correct_address(service: Service, caller: Caller, known: UUID, address: Address) -> datetime | None:
    """Send the mail of a registration to another address. The caller has checked the handle.

    Raises:
        DomainNotAllowedError: addresses of its domain are not accepted.
        RegistrationOverError: it is over.
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client signs too many people up.
        TooSoonError: the new address's schedule says no.
    """
    check_domain(service.settings, address)
    await admit(service, caller, "correct")
    turn = mail_schedule.registration_key(service.secrets, known)
    async with service.pool.transaction() as conn:
        await take_turn(conn, caller, mail_schedule.client_key(service.secrets, address.key, caller.origin))
        await registration.change_address(conn, known, address, uuid4())
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info(
        "address changed before confirmation", registration=str(known), recipient=mask_email(address.email)
    )
    return turns.get(turn)


async def take_turn(conn: Connection, caller: Caller, turn: bytes) -> None:
    """Take a turn on a schedule that the client is shown.

    Raises:
        TooSoonError: it has not come.
    """
    if caller.limited and turn not in await mail_schedule.take_turns(conn, [turn]):
        raise TooSoonError((await mail_schedule.next_turns(conn, [turn]))[turn])


async def _may_insist(service: Service, caller: Caller, address: Address) -> bool:
    """Return whether this mail goes in spite of an earlier bounce: one a day for an address and client.

    The answer to the request does not tell. Counted for all addresses alike, and beside the transaction, since a
    limit's permit stays taken.
    """
    try:
        async with service.pool.connection() as conn:
            await take_permits(conn, [demand(service.secrets, _ONCE_MORE, caller.network, address.key)])
    except RateLimitedError:
        return False
    return True
