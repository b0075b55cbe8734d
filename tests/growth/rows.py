"""A database as it is after a long time: so many rows in every table that grows."""

from __future__ import annotations

from hashlib import md5
from uuid import UUID

import psycopg

# Addresses, ids and times of `n` are the same in every database, however many rows it has.
_TABLES = (
    """
    INSERT INTO users (id, email, email_key, name, password_hash, created_at, disabled_at, role)
    SELECT md5('u' || n)::uuid, 'person' || n || '@example.org', 'person' || n || '@example.org',
           'Person ' || md5(n::text), 'x', now() - n * interval '3 seconds',
           CASE WHEN n % 5000 = 7 THEN now() END, CASE WHEN n % 5000 = 8 THEN 'admin' ELSE 'user' END
      FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client, state, seq, reason,
                               created_at, address_since, changed_at, expires_at, next_try_at)
    SELECT md5('r' || n)::uuid, 'person' || n || '@example.org', 'person' || n || '@example.org', 'Person', 'en',
           CASE WHEN state IN ('confirmed', 'expired') THEN NULL ELSE 'x' END, '192.0.2.0/24', 'Firefox', state, 4,
           CASE WHEN state IN ('delayed', 'bounced') THEN 'timeout' END, t, t, t,
           CASE WHEN state = 'sent' THEN now() + interval '20 hours' END,
           CASE WHEN state = 'delayed' THEN now() END
      FROM (SELECT n, CASE WHEN n % 5000 = 5 THEN 'bounced' WHEN n % 5000 = 6 THEN 'delayed'
                           WHEN n % 3 = 0 THEN 'sent' WHEN n % 3 = 1 THEN 'expired' ELSE 'confirmed' END AS state,
                   now() - interval '1 hour' - n * interval '0.8 seconds' AS t
              FROM generate_series(1, %(rows)s) n) AS r
    """,
    """
    INSERT INTO mails (id, registration_id, kind, sent_as, state, attempts, due_at, created_at, changed_at, sent_at,
                       admitted, reason)
    SELECT md5('m' || n)::uuid, md5('r' || n)::uuid, 'signup', 'confirm', state, 1,
           CASE WHEN state = 'delayed' THEN now() + interval '1 hour' END, t, t,
           CASE WHEN state = 'sent' THEN t + interval '1 second' END, true, CASE WHEN state <> 'sent' THEN 'timeout' END
      FROM (SELECT n, CASE WHEN n IN (5, 305) THEN 'dead' WHEN n % 3 = 0 THEN 'delayed' ELSE 'sent' END AS state,
                   now() - interval '1 hour' - n * interval '0.8 seconds' AS t
              FROM generate_series(1, %(rows)s) n) AS m
    """,
    """
    INSERT INTO mails (id, kind, state, due_at, email_key, created_at, changed_at, reason)
    SELECT md5('f' || n)::uuid, 'forgot', 'cancelled', NULL, 'person' || n || '@example.org',
           now() - n * interval '1 second', now() - n * interval '1 second', 'no_account'
      FROM generate_series(1, %(rows)s / 1000) n
    """,
    """
    INSERT INTO sessions (id, user_id, origin, client, created_at, last_used_at, expires_at, ended_at, ended_reason)
    SELECT md5('s' || n)::uuid, md5('u' || n)::uuid, '192.0.2.0/24', 'Firefox', now() - interval '1 day', now(),
           now() + interval '20 days', CASE WHEN n % 3 = 0 THEN now() END, CASE WHEN n % 3 = 0 THEN 'logout' END
      FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO event_sinks (id, kind, name, url, sealed, sealed_with, ended_at, ended_reason)
    VALUES (md5('k1')::uuid, 'webhook', 'crm', 'https://example.org/hook', 'x', 'x', now(), 'removed')
    """,
    """
    INSERT INTO events (id, type, subject_kind, subject, at, data)
    SELECT md5('e' || n)::uuid, 'user.updated', 'user', md5('u' || n)::uuid, now() - n * interval '1 second', '{}'
      FROM generate_series(1, %(rows)s) n
    """,
    """
    INSERT INTO event_deliveries (id, sink_id, event_id, subject, n, state, due_at)
    SELECT md5('d' || n)::uuid, md5('k1')::uuid, md5('e' || n)::uuid, md5('u' || n)::uuid, n,
           CASE WHEN n % 5000 = 7 THEN 'dead' ELSE 'delivered' END, NULL
      FROM generate_series(1, %(rows)s) n
    """,
    """
    INSERT INTO refresh_tokens (token_hash, session_id, expires_at, used_at)
    SELECT sha256(('t' || n)::bytea), md5('s' || (1 + n % (%(rows)s / 2)))::uuid, now() + interval '6 days', now()
      FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO audit_events (at, event, actor, actor_id, user_id, origin, client, request_id)
    SELECT now() - n * interval '2 minutes', CASE WHEN n % 5000 = 9 THEN 'user_disabled' WHEN n % 2 = 0 THEN 'logged_in'
                                                ELSE 'login_failed' END,
           actor, CASE WHEN actor <> 'anonymous' THEN md5('u' || n)::uuid END, md5('u' || n)::uuid, '192.0.2.0/24',
           'Firefox', md5(n::text)
      FROM (SELECT n, CASE WHEN n % 5000 = 9 THEN 'admin' WHEN n % 2 = 0 THEN 'user' ELSE 'anonymous' END AS actor
              FROM generate_series(1, %(rows)s) n) AS e
    """,
    """
    INSERT INTO address_moves (id, user_id, old_email, old_key, new_email, new_key, state, asked_at)
    SELECT md5('v' || n)::uuid, md5('u' || n)::uuid, 'a', 'a', 'b', 'b', 'void', now() - interval '1 day'
      FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO throttles SELECT sha256(('k' || n)::bytea), now() + interval '1 day'
      FROM generate_series(1, %(rows)s) n
    """,
    """
    INSERT INTO mail_schedules (key, sent, last_at, quiet_until)
    SELECT sha256(('q' || n)::bytea), 1, CASE WHEN n % 2 = 0 THEN now() ELSE now() - interval '2 days' END,
           CASE WHEN n % 2 = 1 THEN now() + interval '20 days' END
      FROM generate_series(1, %(rows)s) n
    """,
    "INSERT INTO login_failures SELECT sha256(('l' || n)::bytea), 1, now() FROM generate_series(1, %(rows)s) n",
    """
    INSERT INTO login_clients SELECT sha256(('c' || n)::bytea), sha256(('a' || n)::bytea), now() - interval '60 days'
      FROM generate_series(1, %(rows)s) n
    """,
    """
    INSERT INTO totp_authenticators (user_id, sealed, sealed_with, last_step)
    SELECT md5('u' || n)::uuid, 'x', 'x', 0 FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO totp_setups SELECT md5('u' || n)::uuid, md5('s' || n)::uuid, 'x', 'x', now() + interval '1 day'
      FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO recovery_keys (user_id, sealed, sealed_with)
    SELECT md5('u' || n)::uuid, 'x', 'x' FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO recovery_codes SELECT md5('u' || n)::uuid, sha256(('m' || n)::bytea)
      FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO pending_logins SELECT sha256(('p' || n)::bytea), md5('u' || n)::uuid, 'x', '{pwd}', 0,
           now() + interval '1 day' FROM generate_series(1, %(rows)s / 2) n
    """,
    """
    INSERT INTO factor_guesses SELECT md5('u' || n)::uuid, ARRAY[now()], now()
      FROM generate_series(1, %(rows)s / 2) n
    """,
    "INSERT INTO code_tries SELECT sha256(('o' || n)::bytea), 1, now() FROM generate_series(1, %(rows)s) n",
    """
    INSERT INTO idempotency_keys SELECT sha256(('i' || n)::bytea), 'x', md5('r' || n)::uuid, now()
      FROM generate_series(1, %(rows)s) n
    """,
)
_INDEXES = """
    SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
      FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace s ON s.oid = c.relnamespace
     WHERE s.nspname = 'public' AND NOT i.indisunique
"""


def an_id(letter: str, number: int = 4) -> UUID:
    """Return the id of a generated row."""
    return UUID(md5(f"{letter}{number}".encode(), usedforsecurity=False).hexdigest())


def fill(conninfo: str, rows: int) -> None:
    """Store so many registrations, and as many or half as many of everything else.

    Indexes are built when the rows are there, and foreign keys are not checked: that takes a third of the time.
    """
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("SET maintenance_work_mem = '128MB'")
        indexes = conn.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            conn.execute(f"DROP INDEX {name}".encode())
        for statement in _TABLES:
            conn.execute(statement.replace("%(rows)s", str(rows)).encode())
        for _, definition in indexes:
            conn.execute(definition.encode())
        conn.execute("VACUUM (ANALYZE)")


def explain_all(conninfo: str) -> None:
    """Have the server explain every statement of this database to whoever sends it, those inside functions too."""
    name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
    with psycopg.connect(conninfo, autocommit=True) as conn:
        for setting in (
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_buffers = on",
            "auto_explain.log_timing = off",
            "auto_explain.log_nested_statements = on",
            "auto_explain.log_format = json",
            "auto_explain.log_level = warning",
            "jit = off",
        ):
            conn.execute(f"ALTER DATABASE {name} SET {setting}".encode())
