"""Log in, open an account or sign up with a proven identity, by the linking rules."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog
from psycopg.types.json import Jsonb

from regsvc.accounts.address import Address, AddressError, parse_address
from regsvc.accounts.audit.record import record
from regsvc.accounts.identities.accounts import AccountAtAddress, find_account, open_account
from regsvc.accounts.identities.attempts import attach_identity
from regsvc.accounts.identities.identity import add_identity, find_owner, note_use
from regsvc.accounts.identities.linking import decide
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.name import NameInvalidError, check_name
from regsvc.accounts.registrations.activation import lock_address
from regsvc.accounts.registrations.registration import NewRegistration, add_registration
from regsvc.accounts.sessions.refresh_token import CredentialsChangedError, Grant
from regsvc.accounts.users import user
from regsvc.accounts.users.notices import add_change_notice
from regsvc.errors import RegsvcError
from regsvc.flows.caller import Caller
from regsvc.flows.identities.own_identities import FEDERATED, note_added
from regsvc.flows.login.completion import complete_login
from regsvc.flows.rate_limits import REGISTER, REGISTER_DAY, throttle
from regsvc.flows.service import Service
from regsvc.flows.signup import policy
from regsvc.logs import mask_email
from regsvc.security.identities.errors import IdentityRefusedError
from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.no_password import mint_no_password

log = structlog.get_logger()


class LocalLoginNeededError(RegsvcError):
    """There is an account of this address. Log in to it, then add the identity to it."""

    code = "local_login_needed"


class AddressMissingError(RegsvcError):
    """The identity provider gives no email address that can have an account here. Sign up with one."""

    code = "identity_without_address"


@dataclass(frozen=True)
class SignUpBegun:
    """An attempt whose mail decides.

    Args:
        registration_id: of the attempt.
    """

    registration_id: UUID


async def settle(
    service: Service, caller: Caller, proven: ProvenIdentity, terms: str | None = None
) -> Grant | SignUpBegun:
    """Log a user in that a provider sends, open an account for them, or begin a sign-up.

    Args:
        service: what to work with.
        caller: who comes.
        proven: what the provider vouches for.
        terms: version of the terms that the person accepts, should an account be opened.

    Raises:
        SecondFactorRequiredError: the user has a second factor.
        SignupClosedError, InvitationNeededError, DomainNotAllowedError, TermsNeededError: see `policy`.
        LocalLoginNeededError: the address has an account that the provider's word is not enough for.
        AddressMissingError: there is no account, and no address to open one with.
        IdentityRefusedError: the user is disabled.
        RateLimitedError: this client signs too many people up.
    """
    address = _read_address(service, proven)
    async with service.pool.connection() as conn:
        owner = await find_owner(conn, proven)
        account = None if owner or address is None else await find_account(conn, address.key)
    decision = decide(
        proven.trust,
        known=owner is not None,
        has_address=address is not None,
        account="none" if account is None else account.standing,
    )
    if decision == "log in" and owner is not None:
        async with service.pool.connection() as conn:
            await note_use(conn, owner.identity_id, proven)
        return await _log_in(service, caller, proven, owner.user_id)
    if address is None:
        raise AddressMissingError
    if decision == "sign up":
        return await _sign_up(service, caller, proven, address, _check_policy(service, address, terms))
    if decision == "open":
        accepted = _check_policy(service, address, terms)
        user_id = await _open(service, caller, proven, address, accepted)
    elif decision == "join" and account is not None:
        user_id = await _join(service, caller, proven, account)
    else:
        raise LocalLoginNeededError
    return await _log_in(service, caller, proven, user_id)


async def _log_in(service: Service, caller: Caller, proven: ProvenIdentity, user_id: UUID) -> Grant:
    async with service.pool.connection() as conn:
        credentials = await user.get_credentials(conn, user_id)
    if credentials is None:
        raise IdentityRefusedError("user disabled")
    try:
        started = await complete_login(service, caller, credentials, amr=[FEDERATED])
    except CredentialsChangedError:
        raise IdentityRefusedError("account changed") from None
    log.info("logged in", user=str(user_id), session=str(started.session_id), provider=proven.provider)
    return started


async def _open(
    service: Service, caller: Caller, proven: ProvenIdentity, address: Address, terms: str | None
) -> UUID:
    """Open an account of an address that the provider vouches for, with the identity as its way in."""
    await throttle(service, caller, REGISTER, REGISTER_DAY)
    name = _choose_name(proven, address)
    app_data = await service.hook.ask(caller, email=address.email, name=name, method=proven.provider)
    async with service.pool.transaction() as conn:
        await lock_address(conn, address.key)
        user_id = await open_account(
            conn,
            address,
            name=name,
            locale=caller.locale,
            password_hash=mint_no_password(),
            terms=terms,
            app_data=None if app_data is None else Jsonb(app_data),
        )
        if user_id is None:
            raise LocalLoginNeededError  # it was confirmed at this moment
        await add_identity(conn, user_id, proven)
        by = caller.as_anyone()
        await record(conn, "account_created", by, user_id=user_id, provider=proven.provider)
        await add_change_notice(conn, user_id, "identity_added", by)
    log.info("account opened", user=str(user_id), provider=proven.provider)
    return user_id


async def _join(service: Service, caller: Caller, proven: ProvenIdentity, account: AccountAtAddress) -> UUID:
    """Add an identity to the account of an address whose mailbox the provider runs; its owner is told by mail."""
    async with service.pool.transaction() as conn:
        await add_identity(conn, account.user_id, proven)
        await note_added(conn, account.user_id, proven, caller.as_anyone())
    log.info("identity added", user=str(account.user_id), provider=proven.provider, by="address")
    return account.user_id


async def _sign_up(
    service: Service, caller: Caller, proven: ProvenIdentity, address: Address, terms: str | None
) -> SignUpBegun:
    """Store an attempt that carries the identity. Whether the address has an account is not looked up."""
    await throttle(service, caller, REGISTER, REGISTER_DAY)
    name = _choose_name(proven, address)
    app_data = await service.hook.ask(caller, email=address.email, name=name, method=proven.provider)
    new = NewRegistration(
        id=uuid4(),
        mail_id=uuid4(),
        email=address.email,
        email_key=address.key,
        name=name,
        locale=caller.locale,
        password_hash=mint_no_password(),
        origin=caller.origin,
        client=caller.client,
        terms=terms,
        app_data=None if app_data is None else Jsonb(app_data),
    )
    async with service.pool.transaction() as conn:
        await add_registration(conn, new)
        await attach_identity(conn, new.id, proven)
        if caller.limited:
            await mail_schedule.take_turns(
                conn,
                [
                    mail_schedule.registration_key(service.secrets, new.id),
                    mail_schedule.client_key(service.secrets, new.email_key, new.origin),
                ],
            )
    log.info("mail queued", mail=str(new.mail_id), registration=str(new.id), recipient=mask_email(new.email))
    return SignUpBegun(new.id)


def _check_policy(service: Service, address: Address, terms: str | None) -> str | None:
    """Return the version of the terms that a new user accepts; the sign-up page asks for the same."""
    policy.check_signup_open(service.settings)
    policy.check_domain(service.settings, address)
    return policy.check_terms(service.settings, terms)


def _read_address(service: Service, proven: ProvenIdentity) -> Address | None:
    try:
        return parse_address(proven.email, service.settings.local_domains)
    except AddressError:
        return None


def _choose_name(proven: ProvenIdentity, address: Address) -> str:
    """Return the name that the provider gives, else what stands before the @."""
    for text in (proven.name, address.email.rpartition("@")[0]):
        with suppress(NameInvalidError):
            return check_name(text)
    return "?"
