"""A user's own identities: list, add, remove."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import structlog

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.factors.ways_in import keep_a_way_in
from regsvc.accounts.identities.identity import (
    IdentityNotFoundError,
    add_identity,
    find_owner,
    list_identities,
    note_use,
    remove_identity,
)
from regsvc.accounts.sessions.proof import keep_proof
from regsvc.accounts.users.notices import add_change_notice
from regsvc.flows.caller import Caller
from regsvc.flows.login.proof import lock_session, require_proof
from regsvc.flows.rate_limits import ACCOUNT, throttle_user
from regsvc.flows.service import Service
from regsvc.postgres.connection import Connection
from regsvc.security.identities.errors import IdentityRefusedError
from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.signing.access_token import AccessToken

FEDERATED = "fed"  # the person authenticated elsewhere; RFC 8176 has no word for it

log = structlog.get_logger()


async def link(service: Service, caller: Caller, token: AccessToken, proven: ProvenIdentity) -> None:
    """Add an identity to the account of a session, which has proved its user.

    Raises:
        IdentityTakenError: it is another user's.
        TooManyIdentitiesError: the user has too many.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    by = caller.as_user(token)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        added = await add_identity(conn, token.user_id, proven)
        if added:
            await note_added(conn, token.user_id, proven, by)
    if added:
        log.info("identity added", user=str(token.user_id), provider=proven.provider, by="user")


async def unlink(service: Service, caller: Caller, token: AccessToken, identity_id: UUID) -> None:
    """Remove an identity of the account of a session.

    Raises:
        ProofNeededError: the session has not proved its user lately.
        IdentityNotFoundError: the user has no such identity.
        LastWayInError: there would be no way in left.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    await require_proof(service, caller, token)
    by = caller.as_user(token)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        if identity_id not in {each.id for each in await list_identities(conn, token.user_id)}:
            raise IdentityNotFoundError
        await keep_a_way_in(conn, token.user_id)
        provider = await remove_identity(conn, token.user_id, identity_id)
        await record(conn, "identity_removed", by, user_id=token.user_id, provider=provider)
        await add_change_notice(conn, token.user_id, "identity_removed", by)
    log.info("identity removed", user=str(token.user_id), provider=provider)


async def prove_by_identity(
    service: Service, caller: Caller, token: AccessToken, proven: ProvenIdentity
) -> datetime:
    """Prove that a session's user is there by one of their identities, and return until when that holds.

    Raises:
        IdentityRefusedError: it is not the user's.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    async with service.pool.transaction() as conn:
        owner = await find_owner(conn, proven)
        if owner is None or owner.user_id != token.user_id:
            raise IdentityRefusedError("of another user")
        await note_use(conn, owner.identity_id, proven)
        until = await keep_proof(conn, token.session_id, [FEDERATED])
        await record(conn, "proof_given", caller.as_user(token), amr=FEDERATED)
    return until


async def note_added(conn: Connection, user_id: UUID, proven: ProvenIdentity, by: By) -> None:
    """Record that an identity was added, and tell the account's owner, in the caller's transaction."""
    await record(conn, "identity_added", by, user_id=user_id, provider=proven.provider)
    await add_change_notice(conn, user_id, "identity_added", by)
