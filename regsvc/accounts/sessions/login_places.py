"""Places that a user logs in from, and the notice of a login from a new one.

A login is from a known place if the account was logged in to within 90 days from the same network (/24, or /48 of
IPv6), or with the same software from the wider network around it (/16 or /32), which a phone seldom leaves. The first
login of an account is from no new place. (ASVS 5.0, 6.3.5)
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from uuid import uuid4

from regsvc.accounts.audit.record import By
from regsvc.accounts.users.notices import NEW_LOGIN, SECURITY_NOTICE
from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection

KEEP = timedelta(days=90)
PLACES = 60  # of a user, two for each network and client; the least recently used are forgotten
NOTICES = 10  # in 24 hours
_WIDE = {4: 16, 6: 32}

_NEW = "(SELECT FROM owner, known WHERE has_places AND NOT is_known AND NOT is_enough) AS new"
# Notes the place of a login as part of another statement, and books a notice of a new one. `owner` has the user's row.
PLACED = f"""
    known AS MATERIALIZED (
        SELECT count(*) > 0 AS has_places,
               coalesce(bool_or(place = ANY(%(places)s::text[]) AND last_at > now() - %(keep_places)s),
                        false) AS is_known,
               count(*) FILTER (WHERE first_at > now() - interval '24 hours') >= {2 * NOTICES} AS is_enough
          FROM login_places
         WHERE user_id = %(user_id)s
    ), placed AS (
        INSERT INTO login_places AS p (user_id, place)
        SELECT owner.id, place FROM owner, unnest(%(places)s::text[]) AS place ORDER BY place
        ON CONFLICT (user_id, place) DO UPDATE SET last_at = now() WHERE p.last_at < now() - interval '1 hour'
    ), forgotten_places AS (
        DELETE FROM login_places
         WHERE user_id = %(user_id)s AND EXISTS (SELECT FROM owner)
           AND place IN (SELECT place FROM login_places WHERE user_id = %(user_id)s
                          ORDER BY last_at DESC, place OFFSET {PLACES} FOR UPDATE SKIP LOCKED)
    ), noticed AS ({SECURITY_NOTICE.format(_NEW)}),
    told AS MATERIALIZED (SELECT pg_notify(%(due_channel)s, '') FROM noticed)
"""  # noqa: S608 - constants
TOLD = "(SELECT count(*) FROM told) >= 0"
"""A condition that is always true: it has the NOTIFY of `PLACED` executed."""


def place_values(by: By) -> dict[str, object]:
    """Return the values of `PLACED`, beside `user_id`, `origin` and `client` of the statement around it."""
    return {
        "places": name_places(by.origin or "unknown", by.client or "unknown"),
        "keep_places": KEEP,
        "notice_id": uuid4(),
        "about": NEW_LOGIN,
        "due_channel": DUE_CHANNEL,
    }


def name_places(origin: str, client: str) -> list[str]:
    """Return the two names of a place: its network, and its software in the wider network.

    Args:
        origin: network prefix of the client, such as `203.0.113.0/24`, or `unknown`.
        client: short name of the client's software.
    """
    try:
        network = ip_network(origin)
        wide = str(network.supernet(new_prefix=min(_WIDE[network.version], network.prefixlen)))
    except ValueError:
        wide = origin
    return [origin, f"{client} in {wide}"]


async def purge_places(conn: Connection, limit: int) -> int:
    """Delete places unused for 90 days, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM login_places
         WHERE (user_id, place) IN (SELECT user_id, place FROM login_places WHERE last_at <= now() - %(keep)s
                                     ORDER BY last_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP, "limit": limit},
    )
    return cursor.rowcount
