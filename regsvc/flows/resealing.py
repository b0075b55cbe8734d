"""Sealed values, kept for years: which hang on another secret than the current one, and sealing them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, LiteralString

from psycopg import sql

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.deliveries import suppression_key
from regsvc.accounts.events import sinks
from regsvc.accounts.factors import recovery_codes, totp
from regsvc.mail.smtp import access_token
from regsvc.postgres.connection import Connection
from regsvc.security.seals import UnsealError, reseal
from regsvc.security.tokens import Secrets

AT_ONCE: Final = 500  # values in a transaction


@dataclass(frozen=True)
class Sealed:
    """A column of sealed values; beside it stands the fingerprint of the secret that sealed each.

    Args:
        name: of the values, for people.
        table: that has the column.
        key: column by which a value is known.
        label: of the seal.
        bound: what the seal is bound to; None for the key itself.
        column: the values; that of the fingerprints has the same name and `_with` after it.
        used: condition of SQL for values that are still used.
    """

    name: str
    table: str
    key: str
    label: str
    bound: bytes | None = None
    column: str = "sealed"
    used: LiteralString = "true"

    @property
    def names(self) -> dict[str, sql.Composable]:
        """Return the names of table and columns, and the condition of what counts, for statements."""
        columns = {"key": self.key, "sealed": self.column, "sealed_with": f"{self.column}_with"}
        names = {name: sql.Identifier(each) for name, each in {"table": self.table, **columns}.items()}
        return {**names, "counts": sql.SQL(f"{{sealed}} IS NOT NULL AND {self.used}").format(**names)}

    def bind(self, key: Any) -> bytes:
        """Return what the seal of one value is bound to."""
        if self.bound is not None:
            return self.bound
        return key.encode() if isinstance(key, str) else bytes(key.bytes)


SEALED: Final = (
    Sealed("suppression key", "mac_keys", "name", suppression_key.SEAL),
    Sealed("authenticator secrets", "totp_authenticators", "user_id", totp.SEAL),
    Sealed("authenticator setups", "totp_setups", "user_id", totp.SEAL),
    Sealed("recovery keys", "recovery_keys", "user_id", recovery_codes.SEAL),
    Sealed("webhook secrets", "event_sinks", "id", sinks.SEAL),
    Sealed(
        "replaced webhook secrets",
        "event_sinks",
        "id",
        sinks.SEAL,
        column="previous",
        used="previous_until > now()",
    ),
    Sealed("access token of SMTP", "smtp_tokens", "id", access_token.SEAL, access_token.BOUND),
)


async def find_old(conn: Connection, secrets: Secrets) -> list[str]:
    """Return the kinds of which another secret than the current one sealed some. Reads of each an index alone."""
    found = []
    for kind in SEALED:
        cursor = await conn.execute(
            sql.SQL(
                """
                WITH RECURSIVE names AS (
                    SELECT min({sealed_with}) AS name FROM {table} WHERE {counts}
                     UNION ALL
                    SELECT (SELECT min({sealed_with}) FROM {table}
                             WHERE {counts} AND {sealed_with} > names.name)
                      FROM names
                     WHERE names.name IS NOT NULL
                )
                SELECT name FROM names WHERE name <> %(current)s LIMIT 1
                """
            ).format(**kind.names),
            {"current": secrets.fingerprint},
        )
        if await cursor.fetchone() is not None:
            found.append(kind.name)
    return found


@dataclass
class Resealed:
    """What became of values that another secret had sealed.

    Args:
        sealed: sealed again.
        lost: neither the current nor the previous secret opens them.
    """

    sealed: int = 0
    lost: int = 0


async def reseal_all(conn: Connection, secrets: Secrets, by: By) -> dict[str, Resealed]:
    """Seal every value with the current secret that the previous one sealed, and return what became of them, by name.

    Args:
        conn: not in a transaction: each batch has its own.
        secrets: the current and the previous one.
        by: the audit actor.
    """
    results: dict[str, Resealed] = {}
    for kind in SEALED:
        result, last = Resealed(), None
        while True:
            async with conn.transaction():
                keys = await _reseal_batch(conn, secrets, kind, last, result)
            if not keys:
                break
            last = keys[-1]
        if result.sealed or result.lost:
            results[kind.name] = result
    async with conn.transaction():
        await record(
            conn,
            "values_resealed",
            by,
            sealed=sum(result.sealed for result in results.values()),
            lost=sum(result.lost for result in results.values()),
        )
    return results


async def _reseal_batch(
    conn: Connection, secrets: Secrets, kind: Sealed, last: Any, result: Resealed
) -> list[Any]:
    names = kind.names
    cursor = await conn.execute(
        sql.SQL(
            """
            SELECT {key}, {sealed} FROM {table}
             WHERE {counts} AND {sealed_with} <> %(current)s AND {after}
             ORDER BY {key} LIMIT %(limit)s FOR UPDATE
            """
        ).format(after=sql.SQL("true" if last is None else "{key} > %(last)s").format(**names), **names),
        {"current": secrets.fingerprint, "last": last, "limit": AT_ONCE},
    )
    found = await cursor.fetchall()
    for key, sealed in found:
        try:
            renewed = reseal(secrets, kind.label, bytes(sealed), bound=kind.bind(key))
        except UnsealError:
            result.lost += 1
            continue
        await conn.execute(
            sql.SQL(
                "UPDATE {table} SET {sealed} = %(sealed)s, {sealed_with} = %(current)s WHERE {key} = %(id)s"
            ).format(**names),
            {"sealed": renewed or bytes(sealed), "current": secrets.fingerprint, "id": key},
        )
        result.sealed += 1
    return [key for key, _ in found]
