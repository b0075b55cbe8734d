"""How soon a watched mail leaves while 10,000 are due, and how long the others wait.

    python bench/watched.py [--due 10000] [--watched 50] [--way database|queue]

So many sign-ups from many networks are due in a real PostgreSQL. One `regsvc serve --role worker` sends them to
`bench/smtp_sink.py`: from PostgreSQL, or from RabbitMQ, where a `regsvc serve --role api` has carried all ids before.
Once the first tenth is sent, so many of the rest are watched by the statement that a process with waiting clients
writes. The clock runs from that to the acceptance of the last of them. In the end the whole order is held against the
place that each mail had by age.
"""

from __future__ import annotations

import argparse
import time
from contextlib import AsyncExitStack
from functools import partial
from uuid import UUID

import trio
from mailer import wait_all
from stand import (
    add_due_mails,
    be_quiet,
    describe_machine,
    execute,
    open_broker,
    open_database,
    open_program,
    open_sink,
    percentile,
    run,
    serve_settings,
    short_folder,
)

from regsvc.mail.queue.watches import PER_NETWORK, watch_mails
from regsvc.postgres.connection import Connection

WAYS = ("database", "queue")
NETWORKS = 200
ROOM = 64  # mails that a worker has in hand


async def measure(due: int, watched: int, way: str) -> None:
    """Send so many mails one way, watch some of them meanwhile, and print when they left."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        database = await stack.enter_async_context(open_database(folder))
        sink = stack.enter_context(open_sink(due // 10))
        settings = serve_settings(database, sink.url)
        if way == "queue":
            settings["amqp_url"] = await trio.to_thread.run_sync(stack.enter_context, open_broker())
        await add_due_mails(database, due)
        await execute(
            database,
            f"UPDATE registrations SET origin = '10.0.' || abs(hashtext(id::text)) %% {NETWORKS} || '.0/24'",  # noqa: S608
        )
        await execute(database, "UPDATE mails SET created_at = now() - random() * interval '1 hour'")
        await execute(database, "UPDATE mails SET due_at = created_at")
        await execute(database, "VACUUM ANALYZE mails, registrations")
        if way == "queue":
            with open_program(folder, "serve", "--role", "api", environ=settings):
                await wait_all(database, "published_at IS NOT NULL", seconds=60 + due / 200)
        stack.enter_context(open_program(folder, "serve", "--role", "worker", environ=settings, wait=False))
        await sink.wait_block()
        chosen = await choose(database, watched)
        async with await Connection.connect(database, application_name="bench") as conn:
            began = time.monotonic()
            ((before,),) = await execute(database, "SELECT count(*) FROM mails WHERE state = 'sent'")
            await watch_mails(conn, chosen)
            await conn.commit()
        with trio.fail_after(60):
            while True:
                ((left,),) = await execute(
                    database,
                    "SELECT count(*) FROM mails WHERE registration_id = ANY(%s) AND state <> 'sent'",
                    chosen,
                )
                if not left:
                    break
                await trio.sleep(0.01)
        took = time.monotonic() - began
        ((after,),) = await execute(database, "SELECT count(*) FROM mails WHERE state = 'sent'")
        await wait_all(database, "state = 'sent'", seconds=120)
        ratios = [
            float(row[0])
            for row in await execute(
                database,
                "SELECT (sent - %s)::float8 / place FROM (SELECT rank() OVER (ORDER BY sent_at) AS sent,"
                " row_number() OVER (ORDER BY created_at) AS place FROM mails) AS order_of_mails",
                ROOM * 4,
            )
        ]
    print(
        f"{way:<9} {watched} watched of {due - before} that were due: accepted {took:.2f} s after they were watched,"
        f" with {after - before - watched} others meanwhile;"
        f" place sent by place due: at most {max(ratios):.1f}, median {percentile(ratios, 0.5):.1f}"
    )


async def choose(database: str, count: int) -> list[UUID]:
    """Return registrations whose mails are due: the oldest, so that nothing but the watching brings them forward."""
    rows = await execute(
        database,
        "SELECT id FROM (SELECT r.id, row_number() OVER (PARTITION BY r.origin ORDER BY m.created_at) AS n"
        " FROM mails m JOIN registrations r ON r.id = m.registration_id WHERE m.state = 'queued') AS due"
        " WHERE n <= %s ORDER BY md5(id::text) LIMIT %s",
        PER_NETWORK,
        count,
    )
    return [row[0] for row in rows]


async def main(due: int, watched: int, ways: list[str]) -> None:
    """Measure one way after the other."""
    be_quiet()
    for way in ways:
        await measure(due, watched, way)
    print(f"{describe_machine()}  (goals: 2 s; 4)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--due", type=int, default=10_000)
    parser.add_argument("--watched", type=int, default=50)
    parser.add_argument("--way", choices=WAYS, help="all if not said")
    chosen = parser.parse_args()
    run(partial(main, chosen.due, chosen.watched, [chosen.way] if chosen.way else list(WAYS)))
