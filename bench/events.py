"""What events cost a sign-up, mail included, and a login: processor time of PostgreSQL and of regsvc.

    python bench/events.py [--cost 10] [--rounds 6] [--seconds 3] [--broker]

One regsvc in role `all` works in windows in turn: with the triggers of events switched off, with them and no sink, with
one webhook that receives every event on this machine, and, with `--broker`, with an exchange in RabbitMQ, through which
mails go, too. Each figure is the median over the rounds; the ratio is to the windows without triggers of the same
round. The receiver is part of the bench and does not count. Before that, what one change of a row costs its PostgreSQL
session: registrations that are stored and shown as sent, thousands in one transaction.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import psycopg
import trio
from clock import Load, named_seconds, thread_seconds
from contenders import open_regsvc
from me import USERS, add_users, from_new_clients
from shares import CONNECTIONS, PASSWORD, SETTLE, sign_ups
from stand import (
    SECRET,
    be_quiet,
    describe_machine,
    median,
    new_database,
    open_broker,
    open_database,
    open_sink,
    run,
    serve_settings,
    short_folder,
)

from regsvc.accounts.audit.record import By
from regsvc.accounts.events.webhooks import add_webhook
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contenders import Contender

EXCHANGE = "regsvc.events"
CHANGES = 5000  # rows that are stored, and changed
WARM = 1.0  # seconds before each window: after a switch, sessions plan their statements again
TABLES = (
    "registrations",
    "users",
    "sessions",
    "totp_authenticators",
    "passkeys",
    "identities",
    "mail_reports",
)
OFF, NO_SINK, WEBHOOK = "triggers off", "no sink", "webhook"
Row = tuple[float, float]  # milliseconds of PostgreSQL and of regsvc for one request


@contextmanager
def open_receiver() -> Iterator[str]:
    """Take events, and give the URL to post them to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def choose(database: str, mode: str) -> None:
    """Switch triggers and sinks."""
    with psycopg.connect(database, autocommit=True) as conn:
        for table in TABLES:
            conn.execute(
                f"ALTER TABLE {table} {'DISABLE' if mode == OFF else 'ENABLE'} TRIGGER USER".encode()
            )
        wanted = {WEBHOOK: "webhook", EXCHANGE: "exchange"}.get(mode)
        conn.execute(
            "UPDATE event_sinks SET ended_at = CASE WHEN kind = %(kind)s THEN NULL ELSE now() END,"
            " ended_reason = CASE WHEN kind = %(kind)s THEN NULL ELSE 'unseen' END",
            {"kind": wanted or "none"},
        )


def cost_of_changes(database: str, modes: list[str], *, rounds: int) -> dict[str, float]:
    """Return the microseconds of PostgreSQL for a change of a registration: the median of the rounds."""
    found: dict[str, list[float]] = {mode: [] for mode in modes}
    for number in range(rounds + 1):
        for mode in random.sample(modes, len(modes)):
            choose(database, mode)
            with psycopg.connect(database) as conn:
                before = sum(thread_seconds(conn.info.backend_pid).values())
                conn.execute(
                    "INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client)"
                    " SELECT gen_random_uuid(), n || '@example.org', n || '@example.org', 'A', 'en', 'x', '', ''"
                    "   FROM generate_series(1, %s) n",
                    [CHANGES],
                )
                conn.execute(
                    "UPDATE registrations SET state = 'sent', expires_at = now() WHERE created_at = now()"
                )
                spent = sum(thread_seconds(conn.info.backend_pid).values()) - before
                conn.rollback()
            if number:
                found[mode].append(spent / (2 * CHANGES) * 1e6)
    return {mode: median(spent) for mode, spent in found.items()}


def measure(load: Load, make: Callable[[], bytes], pid: int, *, seconds: float, want: int) -> Row:
    """Return what a request cost in one window, with what went on after its answer."""
    before = named_seconds("postgres"), sum(thread_seconds(pid).values())
    done = len(load.run(make, seconds=seconds, want=want))
    time.sleep(SETTLE)
    after = named_seconds("postgres"), sum(thread_seconds(pid).values())
    return (after[0] - before[0]) / done * 1e3, (after[1] - before[1]) / done * 1e3


def take_rounds(
    database: str, opened: Contender, modes: list[str], *, rounds: int, seconds: float
) -> dict[tuple[str, str], list[Row]]:
    """Measure every mode in turn, in another order every round, after one round that does not count."""
    load = Load("127.0.0.1", opened.port, CONNECTIONS)
    people = [{"email": f"person{number}@example.org", "password": PASSWORD} for number in range(USERS)]
    deeds = {
        "sign-up": (sign_ups("/api/v1/register"), 201),
        "login": (from_new_clients("POST", "/api/v1/login", people), 200),
    }
    found: dict[tuple[str, str], list[Row]] = {(deed, mode): [] for deed in deeds for mode in modes}
    for number in range(rounds + 1):
        for mode in random.sample(modes, len(modes)):
            choose(database, mode)
            for deed, (make, want) in deeds.items():
                load.run(make, seconds=WARM, want=want)
                time.sleep(SETTLE)
                row = measure(load, make, opened.pid, seconds=seconds, want=want)
                if number:
                    found[deed, mode].append(row)
    return found


async def main(cost: int, rounds: int, seconds: float, *, broker: bool) -> None:
    """Start everything, measure in turn and print."""
    be_quiet()
    with short_folder() as folder, ExitStack() as stack:
        async with open_database(folder) as server:
            sink = stack.enter_context(open_sink(10**9))
            receiver = stack.enter_context(open_receiver())
            settings = {
                "bcrypt_cost": str(cost),
                "trusted_proxies": "127.0.0.1/32",
                "webhooks_allow": "127.0.0.1/32",
            }
            modes = [OFF, NO_SINK, WEBHOOK]
            if broker:
                settings |= {"amqp_url": stack.enter_context(open_broker()), "events_exchange": EXCHANGE}
                modes.append(EXCHANGE)
            database = await new_database(server, "ours")
            opened = stack.enter_context(
                open_regsvc(folder, serve_settings(database, sink.url, **settings), role="all")
            )
            await add_users(database)
            async with await Connection.connect(database) as conn, conn.transaction():
                secrets = Secrets(SECRET.encode())
                await add_webhook(conn, secrets, "bench", receiver, types=None, by=By("operator"))
            changes = await trio.to_thread.run_sync(partial(cost_of_changes, database, modes, rounds=rounds))
            take = partial(take_rounds, rounds=rounds, seconds=seconds)
            found = await trio.to_thread.run_sync(take, database, opened, modes)
            stack.close()
    for mode, spent in changes.items():
        print(f"change   {mode:<14} PostgreSQL {spent:.1f} us")
    for (deed, mode), rows in found.items():
        shown = [median([row[column] for row in rows]) for column in (0, 1)]
        ratios = [
            median([sum(row[:2]) / sum(bare[:2]) for row, bare in zip(rows, found[deed, OFF], strict=True)]),
            median([row[0] / bare[0] for row, bare in zip(rows, found[deed, OFF], strict=True)]),
        ]
        print(
            f"{deed:<8} {mode:<14} PostgreSQL {shown[0]:.2f} ms, regsvc {shown[1]:.2f} ms;"
            f" by none {ratios[0]:.3f}, of PostgreSQL alone {ratios[1]:.3f}"
        )
    print(f"cost {cost}; {describe_machine()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cost", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--broker", action="store_true", help="with a RabbitMQ node of the bench's own")
    chosen = parser.parse_args()
    run(partial(main, broker=chosen.broker), chosen.cost, chosen.rounds, chosen.seconds)
