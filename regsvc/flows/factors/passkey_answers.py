"""Ask for answers of passkeys, and verify them: what sign-up, login, step-up and account share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.factors import passkeys
from regsvc.accounts.factors.passkey_challenges import LIFE_SECONDS, Purpose, add_challenge, take_challenge
from regsvc.accounts.factors.passkeys import StoredKey
from regsvc.accounts.limits.rate_limit import Limit
from regsvc.errors import InvalidCredentialsError
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import throttle
from regsvc.flows.service import Service
from regsvc.schemas.passkeys import AssertedPasskey, CreatedPasskey, show_options
from regsvc.security.passkeys.assertion import Proof, request_options, verify_assertion
from regsvc.security.passkeys.client_data import PasskeyInvalidError, read_challenge, reading_answer
from regsvc.security.passkeys.encoding import decode_bytes
from regsvc.security.passkeys.registration import Credential, verify_registration
from regsvc.security.passkeys.relying_party import get_relying_party

log = structlog.get_logger()

# A login page renews its challenge every few minutes, and many people may share an address.
PASSKEY_OPTIONS = Limit("passkey-options", 120, 60)
PASSKEY_ANSWER = Limit("passkey-answer", 30, 60)


@dataclass(frozen=True)
class Answered:
    """A verified assertion of a passkey of an account.

    Args:
        key: the passkey that answered.
        proof: what the assertion says.
    """

    key: StoredKey
    proof: Proof

    @property
    def user_id(self) -> UUID:
        """Return whose passkey it is."""
        return self.key.user_id

    @property
    def methods(self) -> list[str]:
        """Return the authentication methods for the claim `amr` (RFC 8176 section 2).

        A verified user with a key is more than one factor. A key that may be copied between devices counts as one in
        software.
        """
        return ["swk" if self.proof.synced else "hwk", "user", "mfa"]


async def begin_answer(service: Service, caller: Caller) -> dict[str, Any]:
    """Return options for an assertion of any passkey of this site, and store their challenge.

    Nothing is looked up, so the answer tells nothing. Autofill needs options that name no passkey.

    Raises:
        RateLimitedError: this client asks too often.
    """
    await throttle(service, caller, PASSKEY_OPTIONS)
    async with service.pool.connection() as conn:
        challenge = await add_challenge(conn, "login")
    party = get_relying_party(service.settings)
    return show_options(request_options(party, challenge, allow=[], life=LIFE_SECONDS))


async def verify_answer(
    service: Service,
    caller: Caller,
    body: AssertedPasskey,
    *,
    purpose: Purpose = "login",
    user_id: UUID | None = None,
) -> Answered:
    """Verify an assertion of an account's passkey, and use up its challenge. Call it outside of any transaction.

    The caller records the use with `use_passkey`, in the transaction of what it permits.

    Args:
        service: what to work with.
        caller: who answers.
        body: the assertion.
        purpose: of its challenge.
        user_id: the user whose passkey it has to be, and whose failures the caller records; None: any user's.

    Raises:
        RateLimitedError: this client tries too much.
        PasskeyInvalidError: the assertion is not valid, or of another user's passkey.
        PasskeyExpiredError: its challenge is used up, too old, or none of ours.
        PasskeyUnknownError: no account has the passkey.
        PasskeyUnconfirmedError: the passkey's sign-up is not confirmed.
        InvalidCredentialsError: the account may not log in.
    """
    await throttle(service, caller, PASSKEY_ANSWER)
    challenge = read_challenge(body.response.clientDataJSON)
    with reading_answer():
        credential_id = decode_bytes(body.id)
    async with service.pool.connection() as conn:
        await take_challenge(conn, challenge, purpose, user_id if purpose != "login" else None)
    async with service.pool.connection() as conn:
        try:
            key = await passkeys.find_key(conn, credential_id)
        except passkeys.PasskeyUnknownError:
            if user_id is None:
                await record(conn, "login_failed", caller.as_anyone())
            raise
    try:
        return Answered(key, _verify(service, body, challenge, key, purpose=purpose, user_id=user_id))
    except (PasskeyInvalidError, InvalidCredentialsError):
        if user_id is None:
            async with service.pool.connection() as conn:
                await record(conn, "login_failed", caller.as_anyone(), user_id=key.user_id)
        raise


def _verify(
    service: Service,
    body: AssertedPasskey,
    challenge: bytes,
    key: StoredKey,
    *,
    purpose: Purpose,
    user_id: UUID | None,
) -> Proof:
    if user_id is not None and key.user_id != user_id:
        raise PasskeyInvalidError
    proof = verify_with(service, body, challenge, key.public_key, key.user_id, named=purpose == "proof")
    if key.disabled:
        raise InvalidCredentialsError
    return proof


def verify_with(
    service: Service,
    body: AssertedPasskey,
    challenge: bytes,
    public_key: bytes,
    user_id: UUID,
    *,
    named: bool = False,
) -> Proof:
    """Verify an assertion with a public key; `named`: the options named the passkeys that may answer.

    Raises:
        PasskeyInvalidError: it is not valid.
    """
    return verify_assertion(
        get_relying_party(service.settings),
        challenge,
        public_key=public_key,
        user_id=user_id,
        client_data=body.response.clientDataJSON,
        authenticator_data=body.response.authenticatorData,
        signature=body.response.signature,
        user_handle=body.response.userHandle,
        needs_handle=not named,
    )


async def verify_created(
    service: Service, body: CreatedPasskey, *, purpose: Purpose, user_id: UUID | None = None
) -> tuple[UUID, Credential]:
    """Verify a new passkey, use up its challenge, and return the user that it was made for, and the passkey.

    Args:
        service: what to work with.
        body: the browser's answer.
        purpose: of its challenge.
        user_id: the user; None: who will be the user of a sign-up.

    Raises:
        PasskeyInvalidError: the answer is not valid.
        PasskeyExpiredError: its challenge is used up, too old, or none of ours.
    """
    challenge = read_challenge(body.response.clientDataJSON)
    async with service.pool.connection() as conn:
        holder = await take_challenge(conn, challenge, purpose, user_id)
    credential = verify_registration(
        get_relying_party(service.settings),
        challenge,
        client_data=body.response.clientDataJSON,
        attestation=body.response.attestationObject,
        transports=body.response.transports,
    )
    with reading_answer():
        if holder is None or decode_bytes(body.id) != credential.id:
            raise ValueError("another credential")
    return holder, credential
