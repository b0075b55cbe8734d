"""Passkeys of users: their public keys, and the SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg.rows import class_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.factors.ways_in import keep_a_way_in
from regsvc.accounts.users.notices import add_change_notice
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.passkeys.assertion import Proof
from regsvc.security.passkeys.encoding import encode_bytes
from regsvc.security.passkeys.registration import Credential, Described
from regsvc.security.passkeys.relying_party import RelyingParty

MOST = 20  # of a user


class PasskeyNotFoundError(RegsvcError):
    """There is no such passkey."""

    code = "passkey_not_found"


class PasskeyKnownError(RegsvcError):
    """This passkey is already in use."""

    code = "passkey_known"


class TooManyPasskeysError(RegsvcError):
    """You have as many passkeys as an account can have. Remove one first."""

    code = "too_many_passkeys"


class PasskeyUnknownError(RegsvcError):
    """No account here has this passkey."""

    code = "passkey_unknown"


class PasskeyUnconfirmedError(RegsvcError):
    """The sign-up with this passkey is not confirmed yet. Enter the code from the email, or open its link."""

    code = "passkey_unconfirmed"


@dataclass(frozen=True)
class Passkey:
    """A passkey as its owner sees it.

    Args:
        id: of ours.
        credential_id: of its authenticator.
        name: chosen by its owner.
        synced: whether it may be copied to other devices.
        transports: ways to reach its authenticator.
        created_at: when it was added.
        last_used_at: when it was last used; None: never.
    """

    id: UUID
    credential_id: bytes
    name: str
    synced: bool
    transports: list[str]
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, repr=False)
class StoredKey:
    """What an assertion is verified with."""

    id: UUID
    user_id: UUID
    email_key: str
    public_key: bytes
    disabled: bool


async def list_passkeys(conn: Connection, user_id: UUID) -> list[Passkey]:
    """Return the passkeys of a user, oldest first."""
    async with conn.cursor(row_factory=class_row(Passkey)) as cursor:
        await cursor.execute(
            """
            SELECT id, credential_id, name, synced, transports, created_at, last_used_at
              FROM passkeys
             WHERE user_id = %(user_id)s
             ORDER BY created_at, id LIMIT %(most)s
            """,
            {"user_id": user_id, "most": MOST},
        )
        return await cursor.fetchall()


def describe(passkey: Passkey) -> Described:
    """Return a passkey as options name it."""
    return {
        "type": "public-key",
        "id": encode_bytes(passkey.credential_id),
        "transports": passkey.transports,
    }


def name_accepted(party: RelyingParty, user_id: UUID, passkeys: Sequence[Passkey]) -> dict[str, object]:
    """Return a user's passkeys for a browser that forgets the others (level 3, `signalAllAcceptedCredentials`)."""
    return {
        "rpId": party.id,
        "userId": encode_bytes(user_id.bytes),
        "allAcceptedCredentialIds": [encode_bytes(each.credential_id) for each in passkeys],
    }


async def add_passkey(conn: Connection, user_id: UUID, credential: Credential, name: str, by: By) -> Passkey:
    """Add a verified passkey to a user, in the caller's transaction, and return it.

    Raises:
        TooManyPasskeysError: the user has as many as they may have.
        PasskeyKnownError: it is registered already.
    """
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR NO KEY UPDATE", {"id": user_id})
    if len(await list_passkeys(conn, user_id)) >= MOST:
        raise TooManyPasskeysError
    async with conn.cursor(row_factory=class_row(Passkey)) as cursor:
        await cursor.execute(
            """
            INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, synced, transports, name)
            VALUES (%(id)s, %(user_id)s, %(credential_id)s, %(public_key)s, %(sign_count)s, %(synced)s,
                    %(transports)s, %(name)s)
            ON CONFLICT (credential_id) DO NOTHING
            RETURNING id, credential_id, name, synced, transports, created_at, last_used_at
            """,
            {
                "id": uuid4(),
                "user_id": user_id,
                "credential_id": credential.id,
                "public_key": credential.public_key,
                "sign_count": credential.sign_count,
                "synced": credential.synced,
                "transports": list(credential.transports),
                "name": name,
            },
        )
        added = await cursor.fetchone()
    if added is None:
        raise PasskeyKnownError
    await record(conn, "passkey_added", by, user_id=user_id, passkey=str(added.id))
    await add_change_notice(conn, user_id, "passkey_added", by)
    return added


async def rename_passkey(conn: Connection, user_id: UUID, passkey_id: UUID, name: str, by: By) -> Passkey:
    """Give a user's passkey another name, in the caller's transaction, and return it.

    Raises:
        PasskeyNotFoundError: the user has no such passkey.
    """
    async with conn.cursor(row_factory=class_row(Passkey)) as cursor:
        await cursor.execute(
            """
            UPDATE passkeys SET name = %(name)s WHERE id = %(id)s AND user_id = %(user_id)s
            RETURNING id, credential_id, name, synced, transports, created_at, last_used_at
            """,
            {"id": passkey_id, "user_id": user_id, "name": name},
        )
        renamed = await cursor.fetchone()
    if renamed is None:
        raise PasskeyNotFoundError
    await record(conn, "passkey_renamed", by, user_id=user_id, passkey=str(passkey_id))
    return renamed


async def remove_passkey(conn: Connection, user_id: UUID, passkey_id: UUID, by: By) -> None:
    """Remove a user's passkey, in the caller's transaction.

    Raises:
        PasskeyNotFoundError: the user has no such passkey.
        LastWayInError: the user has no other way in.
    """
    if all(known.id != passkey_id for known in await list_passkeys(conn, user_id)):
        raise PasskeyNotFoundError
    await keep_a_way_in(conn, user_id)
    cursor = await conn.execute(
        "DELETE FROM passkeys WHERE id = %(id)s AND user_id = %(user_id)s",
        {"id": passkey_id, "user_id": user_id},
    )
    if cursor.rowcount == 0:
        raise PasskeyNotFoundError
    await record(conn, "passkey_removed", by, user_id=user_id, passkey=str(passkey_id))
    await add_change_notice(conn, user_id, "passkey_removed", by)


async def remove_passkeys(conn: Connection, user_id: UUID, *, since: datetime | None = None) -> int:
    """Remove a user's passkeys in the caller's transaction, even the last way in, and return the count.

    The caller records the event, and gives the user another way in.

    Args:
        conn: in a transaction.
        user_id: the user.
        since: only those added at this time or later; None: all.
    """
    cursor = await conn.execute(
        """
        DELETE FROM passkeys WHERE user_id = %(user_id)s AND created_at >= coalesce(%(since)s::timestamptz, '-infinity')
        """,
        {"user_id": user_id, "since": since},
    )
    return cursor.rowcount


async def find_key(conn: Connection, credential_id: bytes) -> StoredKey:
    """Return what verifies assertions of a credential.

    Raises:
        PasskeyUnknownError: it belongs to no account.
        PasskeyUnconfirmedError: it belongs to a sign-up that waits for its confirmation.
    """
    async with conn.cursor(row_factory=class_row(StoredKey)) as cursor:
        await cursor.execute(
            """
            SELECT p.id, p.user_id, u.email_key, p.public_key, u.disabled_at IS NOT NULL AS disabled
              FROM passkeys p
              JOIN users u ON u.id = p.user_id
             WHERE p.credential_id = %(credential_id)s
            """,
            {"credential_id": credential_id},
        )
        found = await cursor.fetchone()
    if found is not None:
        return found
    cursor_ = await conn.execute(
        """
        SELECT FROM registration_passkeys p
          JOIN registrations r ON r.id = p.registration_id
         WHERE p.credential_id = %(credential_id)s AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
         LIMIT 1
        """,
        {"credential_id": credential_id},
    )
    if cursor_.rowcount > 0:
        raise PasskeyUnconfirmedError
    raise PasskeyUnknownError


async def use_passkey(conn: Connection, passkey_id: UUID, proof: Proof, by: By) -> None:
    """Record the use of a passkey, in the transaction of what it was used for.

    A count that goes back may mean a copy of the authenticator, and more often a restored one. It is an event in the
    audit log, and no reason to lock the owner out (Web Authentication level 3, 6.1.1). Synced passkeys always count 0.

    Raises:
        PasskeyUnknownError: it has been removed meanwhile.
    """
    cursor = await conn.execute(
        "SELECT user_id, sign_count FROM passkeys WHERE id = %(id)s FOR NO KEY UPDATE", {"id": passkey_id}
    )
    found = await cursor.fetchone()
    if found is None:
        raise PasskeyUnknownError
    user_id, before = found
    await conn.execute(
        """
        UPDATE passkeys SET sign_count = %(count)s, synced = %(synced)s, last_used_at = now() WHERE id = %(id)s
        """,
        {"id": passkey_id, "count": proof.sign_count, "synced": proof.synced},
    )
    if proof.sign_count <= before and (proof.sign_count or before):
        await record(
            conn,
            "passkey_count_went_back",
            by,
            user_id=user_id,
            passkey=str(passkey_id),
            before=before,
            now=proof.sign_count,
        )
        await add_change_notice(conn, user_id, "passkey_copied", by)
