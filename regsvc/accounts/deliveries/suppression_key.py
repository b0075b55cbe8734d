"""The key of the MACs by which suppressed addresses are known: random, one for a database, and sealed.

Because only its seal depends on the service's secret, entries outlive any number of rotations without their addresses
being stored anywhere.
"""

from __future__ import annotations

import secrets as random
from typing import Final

import structlog

from regsvc.postgres.connection import Connection
from regsvc.postgres.query import TEXT, Query, read_bytes, read_text
from regsvc.security.seals import UnsealError, seal, unseal
from regsvc.security.tokens import Secrets

log = structlog.get_logger()

SEAL: Final = "mac-key-seal"
_NAME: Final = "suppression"


async def find_mac_key(conn: Connection, secrets: Secrets) -> bytes | None:
    """Return the key; None if no address was suppressed yet, or another secret sealed the key."""
    found = await _find(conn)
    if found is None:
        return None
    try:
        return unseal(secrets, SEAL, found[0], bound=_NAME.encode())
    except UnsealError:
        log.error("suppression key not opened")  # noqa: TRY400 - the cause is known
        return None


async def get_mac_key(conn: Connection, secrets: Secrets) -> bytes:
    """Return the key, made or sealed again if needed, in the caller's transaction.

    A key that another secret sealed is replaced: the entries made with it are lost, and no mail waits for them.
    """
    key = await find_mac_key(conn, secrets)
    found = await _find(conn)
    if key is not None and found is not None and found[1] == secrets.fingerprint:
        return key
    lost = None if found is None or key is not None else found[0]
    await conn.execute(
        """
        INSERT INTO mac_keys AS k (name, sealed, sealed_with) VALUES (%(name)s, %(sealed)s, %(sealed_with)s)
        ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, sealed_with = excluded.sealed_with
         WHERE k.sealed = %(before)s
        """,
        {
            "name": _NAME,
            "sealed": seal(secrets, SEAL, key or random.token_bytes(32), bound=_NAME.encode()),
            "sealed_with": secrets.fingerprint,
            "before": lost if found is None or lost else found[0],
        },
    )
    made = await find_mac_key(conn, secrets)  # perhaps another process's
    if made is None:
        raise UnsealError
    return made


_KEY = Query("SELECT sealed, sealed_with FROM mac_keys WHERE name = $1", [TEXT], [read_bytes, read_text])


async def _find(conn: Connection) -> tuple[bytes, str] | None:
    rows = await _KEY.execute(conn, _NAME.encode())
    return (rows[0][0], rows[0][1]) if rows else None
